package desfire

import (
	"encoding/binary"
	"fmt"

	"koala/spec/iso9797"
)

// The door's application: the credential in file 0, enciphered. Key 0 is the
// master (the access host writes with it), 1 the doors' (read only).
const (
	DoorAID        AID  = 0x4B4C02
	DoorCredential byte = 0x00

	DoorMaster byte = 0
	DoorReader byte = 1
)

// DoorSystem is the system identifier in the diversification of its keys.
const DoorSystem = "KOALA DOOR"

// Door is the application for a card with a credential in it.
func Door(keys [2]SealedKey, c Credential) Application {
	return Application{
		AID: DoorAID, Settings: FreeListing | ChangeMaster | ChangeSettings, Keys: keys[:],
		Files: []InitialFile{{Content: c.Bytes(), NewFile: NewFile{No: DoorCredential, Settings: FileSettings{
			Type: BackupFile, Mode: Enciphered, Access: Rights(DoorReader, DoorMaster, DoorMaster, DoorMaster), Size: CredentialLen,
		}}}},
	}
}

// A Credential is what a door reads: 29 bytes, big endian: version 1 | site 4 |
// person 8 | valid from 4 and to 4, YYYYMMDD in BCD, both days included | MAC 8.
// The MAC is the access host's and covers the card's UID and application too, so
// that a credential copied to another card is worth nothing.
type Credential struct {
	Site     uint32
	Person   uint64
	From, To [4]byte
	MAC      [8]byte
}

// CredentialLen is the length of a credential in bytes.
const CredentialLen = 29

const credentialVersion = 0x01

func (c Credential) body() []byte {
	b := append(make([]byte, 0, CredentialLen+10), credentialVersion)
	b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(b, c.Site), c.Person)
	return append(append(b, c.From[:]...), c.To[:]...)
}

// Bytes codes the credential.
func (c Credential) Bytes() []byte { return append(c.body(), c.MAC[:]...) }

// ParseCredential reads a credential. What it says is not checked; see Verify.
func ParseCredential(b []byte) (c Credential, err error) {
	if err := exactly("credential", b, CredentialLen); err != nil {
		return c, err
	}
	if b[0] != credentialVersion {
		return c, fmt.Errorf("credential: %w: %02X", ErrVersion, b[0])
	}
	return Credential{
		Site: binary.BigEndian.Uint32(b[1:]), Person: binary.BigEndian.Uint64(b[5:]),
		From: [4]byte(b[13:17]), To: [4]byte(b[17:21]), MAC: [8]byte(b[21:29]),
	}, nil
}

func (c Credential) mac(key [16]byte, card UID) []byte {
	app := DoorAID.Bytes()
	full := iso9797.CMAC(key[:], append(append(c.body(), card[:]...), app[:]...))
	return full[:8]
}

// Sign puts the access host's MAC on for one card: the first half of the
// AES-CMAC over the fields before it, the UID and the AID.
func (c Credential) Sign(key [16]byte, card UID) Credential {
	c.MAC = [8]byte(c.mac(key, card))
	return c
}

// Verify checks the MAC.
func (c Credential) Verify(key [16]byte, card UID) error {
	if !same(c.mac(key, card), c.MAC[:]) {
		return fmt.Errorf("credential: %w", ErrMAC)
	}
	return nil
}
