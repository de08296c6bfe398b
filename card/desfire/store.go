package desfire

import (
	"errors"

	"koala/card"
	"koala/spec/desfire"
	"koala/spec/iso7816"
)

// StoreData personalises the card over the air, one application at a time. An
// application that is there already is replaced, in the same unit. The master key
// stays the factory's, which everybody knows, until grouping DGIMaster has come:
// an issuer sends that one first.
func (a *applet) StoreData(s *card.Session, dgi uint16, data []byte) iso7816.SW {
	if !a.open(s) {
		return iso7816.SWMemory
	}
	switch dgi {
	case desfire.DGIMaster:
		return a.storeMaster(s, data)
	case desfire.DGIApplication:
		return a.storeApp(s, data)
	case desfire.DGIDelete:
		aid, err := desfire.ParseDeletion(data)
		if err != nil {
			return malformed(err)
		}
		if x := a.find(aid); x.Present() {
			a.remove(x.Region)
		}
		return iso7816.OK // wiped at the next selection
	}
	return iso7816.SWReferenceNotFound
}

func malformed(err error) iso7816.SW {
	if errors.Is(err, desfire.ErrLength) {
		return iso7816.SWLength
	}
	return iso7816.SWData
}

func (a *applet) storeMaster(s *card.Session, data []byte) iso7816.SW {
	m, err := desfire.ParseMaster(data)
	if err != nil {
		return malformed(err)
	}
	key, err := m.Key.Open(s.DecryptKey)
	if err != nil {
		return iso7816.SWData
	}
	a.picc.Write(atSettings, []byte{byte(m.Settings)})
	a.setMaster(key)
	return iso7816.OK
}

func (a *applet) storeApp(s *card.Session, data []byte) iso7816.SW {
	in, err := desfire.ParseApplication(data)
	if err != nil {
		return malformed(err)
	}
	if k := in.Settings.ChangeKey(); int(k) >= len(in.Keys) && k < desfire.Free {
		return iso7816.SWData
	}
	keys := make([]desfire.Key, len(in.Keys))
	for i, k := range in.Keys {
		if keys[i], err = k.Open(s.DecryptKey); err != nil {
			return iso7816.SWData
		}
	}
	if old := a.find(in.AID); old.Present() {
		a.remove(old.Region)
	}
	x, st := a.makeApp(s, newApp{aid: in.AID, settings: in.Settings, keys: byte(desfire.AES) | byte(len(keys))})
	if st != desfire.OK {
		s.Rollback()
		return iso7816.SWNoSpace
	}
	for i, k := range keys {
		x.setKey(i, k)
	}
	for _, f := range in.Files {
		made, st := a.makeFile(s, x, f.NewFile)
		if st != desfire.OK {
			s.Rollback()
			return iso7816.SWNoSpace
		}
		made.fill(f.Content)
	}
	return iso7816.OK
}

// fill writes the content a file is born with.
func (f file) fill(content []byte) {
	if !f.isRecords() {
		f.Write(atData, content)
		return
	}
	for ; len(content) > 0; content = content[f.size():] {
		f.add(content[:f.size()])
	}
}
