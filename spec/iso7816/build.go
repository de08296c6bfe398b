package iso7816

// Select selects an application by its name, first occurrence, with the file
// control information as answer (7816-4, 11.2.2).
func Select(aid []byte) Command {
	return Command{INS: InsSelect, P1: 0x04, Data: aid}
}

// SelectFile selects an elementary or dedicated file by its identifier.
func SelectFile(id uint16) Command {
	return Command{INS: InsSelect, Data: []byte{byte(id >> 8), byte(id)}}
}

// ReadBinarySFI reads le bytes from off (at most 255) of the transparent file
// with that short identifier.
func ReadBinarySFI(sfi byte, off, le int) Command {
	return Command{INS: InsReadBinary, P1: 0x80 | sfi&0x1F, P2: byte(off), Le: le}
}

// UpdateBinarySFI writes data at off (at most 255) of the transparent file.
func UpdateBinarySFI(sfi byte, off int, data []byte) Command {
	return Command{INS: InsUpdateBinary, P1: 0x80 | sfi&0x1F, P2: byte(off), Data: data, Le: NoLe}
}

// ReadRecord reads the record with that number (1 is the first or, in a
// cyclic file, the newest).
func ReadRecord(n, sfi byte, le int) Command {
	return Command{INS: InsReadRecord, P1: n, P2: sfi<<3 | 0x04, Le: le}
}

// ReadRecordByID reads the first record whose first byte is id.
func ReadRecordByID(id, sfi byte, le int) Command {
	return Command{INS: InsReadRecord, P1: id, P2: sfi << 3, Le: le}
}

// GetResponse fetches le bytes that a T=0 card holds back with 61xx.
func GetResponse(le int) Command { return Command{INS: InsGetResponse, Le: le} }

// GetChallenge asks for n random bytes.
func GetChallenge(n int) Command { return Command{INS: InsGetChallenge, Le: n} }

// Channel is the logical channel a class byte names, 0-19 (7816-4, 5.4.1).
func Channel(cla byte) int {
	if cla&0x40 != 0 {
		return 4 + int(cla&0x0F)
	}
	return int(cla & 0x03)
}

// WithChannel puts a logical channel of 0-3 into a class byte, or one of 4-19
// by turning it to the further interindustry coding. Another number panics.
func WithChannel(cla byte, channel int) byte {
	switch {
	case channel >= 0 && channel <= 3:
		return cla&^0x03 | byte(channel)
	case channel >= 4 && channel <= 19:
		out := cla&0x90 | 0x40 | byte(channel-4)
		if Secure(cla) {
			out |= 0x20
		}
		return out
	}
	panic("iso7816: logical channel out of range")
}

// Secure says whether a class byte announces secure messaging.
func Secure(cla byte) bool {
	if cla&0x40 != 0 {
		return cla&0x20 != 0
	}
	return cla&0x0C != 0
}

// WithoutChannel is the class byte on the basic channel, its secure messaging
// bits kept: what a MAC over the header is computed with.
func WithoutChannel(cla byte) byte {
	if cla&0x40 == 0 {
		return cla &^ 0x03
	}
	out := cla & 0x80
	if cla&0x20 != 0 {
		out |= 0x04
	}
	return out
}

// Base is the class byte without channel and secure messaging bits: 00 for
// interindustry commands, 80 for proprietary ones.
func Base(cla byte) byte { return cla & 0x80 }
