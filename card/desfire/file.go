package desfire

import (
	"encoding/binary"

	"koala/card"
	"koala/spec/desfire"
)

// A file, after kind and number of its slot: file number 1 | ISO identifier 2 |
// type 1 | mode 1 | access 2. Then, of a data file, size 3 and the bytes; of a
// value file, lower 4, upper 4, value 4, limited credit 4, flags 1; of a record
// file, record size 3, most 3, records there are 3, place of the next 3, and the
// places. Numbers are big endian here.
const (
	atNo     = 5
	atFISO   = 6
	atType   = 8
	atMode   = 9
	atAccess = 10

	atSize = 12
	atData = 15

	atLower   = 12
	atUpper   = 16
	atValue   = 20
	atLimited = 24
	atFlags   = 28
	valueSize = 29

	atMost    = 15
	atNow     = 18
	atPlace   = 21
	atRecords = 24

	flagLimited   = 0x01
	flagFreeValue = 0x02
)

type file struct{ card.Region }

func (f file) no() byte                 { return f.Bytes()[atNo] }
func (f file) kind() desfire.FileType   { return desfire.FileType(f.Bytes()[atType]) }
func (f file) access() desfire.Access   { return desfire.Access(f.Uint16(atAccess)) }
func (f file) size() int                { return f.get24(atSize) }
func (f file) value() int32             { return int32(f.Uint32(atValue)) }
func (f file) records() (most, now int) { return f.get24(atMost), f.get24(atNow) }

func (f file) get24(at int) int {
	b := f.Bytes()[at:]
	return int(b[0])<<16 | int(b[1])<<8 | int(b[2])
}

func (f file) put24(at, v int) { f.Write(at, []byte{byte(v >> 16), byte(v >> 8), byte(v)}) }

func (f file) isRecords() bool {
	return f.kind() == desfire.LinearFile || f.kind() == desfire.CyclicFile
}

func (f file) mode() desfire.Mode {
	if m := desfire.Mode(f.Bytes()[atMode]); m == desfire.MACed || m == desfire.Enciphered {
		return m
	}
	return desfire.Plain
}

func (f file) settings() desfire.FileSettings {
	s := desfire.FileSettings{Type: f.kind(), Mode: desfire.Mode(f.Bytes()[atMode]), Access: f.access()}
	switch {
	case s.Type == desfire.ValueFile:
		flags := f.Bytes()[atFlags]
		s.Lower, s.Upper, s.Limited = int32(f.Uint32(atLower)), int32(f.Uint32(atUpper)), int32(f.Uint32(atLimited))
		s.LimitedOn, s.FreeValue = flags&flagLimited != 0, flags&flagFreeValue != 0
	case f.isRecords():
		s.Size = f.size()
		s.Max, s.Now = f.records()
	default:
		s.Size = f.size()
	}
	return s
}

// need is the size of a file's slot.
func need(s desfire.FileSettings) int {
	switch s.Type {
	case desfire.ValueFile:
		return valueSize
	case desfire.LinearFile, desfire.CyclicFile:
		return atRecords + s.Size*s.Max
	}
	return atData + s.Size
}

// file finds a file of the current application.
func (a *applet) file(no byte) (file, desfire.Status) {
	if a.level() {
		return file{}, desfire.Permission
	}
	for _, f := range a.filesOf(a.app) {
		if f.no() == no {
			return f, desfire.OK
		}
	}
	return file{}, desfire.NoFile
}

// use checks that one of the keys an access names is authenticated, and gives
// the mode the data travel in. Free access is plain.
func (a *applet) use(f file, keys ...byte) (desfire.Mode, desfire.Status) {
	free, never := false, true
	for _, k := range keys {
		switch {
		case k == desfire.Never:
			continue
		case k == desfire.Free:
			free = true
		case a.session != nil && a.session.KeyNo == k:
			return f.mode(), desfire.OK
		}
		never = false
	}
	switch {
	case free:
		return desfire.Plain, desfire.OK
	case never:
		return 0, desfire.Permission
	}
	return 0, a.refusal()
}

// inApp checks the right to list files.
func (a *applet) inApp() desfire.Status {
	if a.level() {
		return desfire.Permission
	}
	return a.may(desfire.FreeListing)
}

func (a *applet) files(*card.Session, []byte) answer {
	if st := a.inApp(); st != desfire.OK {
		return says(st)
	}
	var out []byte
	for _, f := range a.filesOf(a.app) {
		out = append(out, f.no())
	}
	return gives(out)
}

func (a *applet) isoFiles(*card.Session, []byte) answer {
	if st := a.inApp(); st != desfire.OK {
		return says(st)
	}
	var out []byte
	for _, f := range a.filesOf(a.app) {
		if id := f.Uint16(atFISO); id != 0 {
			out = binary.LittleEndian.AppendUint16(out, id)
		}
	}
	return gives(out)
}

func (a *applet) fileSettings(_ *card.Session, in []byte) answer {
	if st := a.inApp(); st != desfire.OK {
		return says(st)
	}
	f, st := a.file(in[0])
	if st != desfire.OK {
		return says(st)
	}
	return gives(f.settings().Bytes())
}

// createFile is the five commands that make files. Some readers put the MAC of
// the file's mode behind the command already.
func (a *applet) createFile(s *card.Session, cmd byte, in []byte) answer {
	const macLen = 8
	header, body, n, mode := in, []byte(nil), 0, desfire.Plain
	if a.session != nil && len(in) > macLen {
		if _, err := desfire.ParseNewFile(cmd, in); statusOf(err) == desfire.WrongLength {
			header, body, n, mode = nil, in, len(in)-macLen, desfire.MACed
		}
	}
	if _, st := a.opened(cmd, header, body, n, mode); st != desfire.OK {
		return says(st)
	}
	x, err := desfire.ParseNewFile(cmd, in[:len(header)+n])
	switch {
	case err != nil:
		return says(statusOf(err))
	case a.level():
		return says(desfire.Permission)
	}
	if st := a.may(desfire.FreeCreate); st != desfire.OK {
		return says(st)
	}
	_, st := a.makeFile(s, a.app, x)
	return says(st)
}

// makeFile writes a new file.
func (a *applet) makeFile(s *card.Session, owner app, x desfire.NewFile) (file, desfire.Status) {
	for _, f := range a.filesOf(owner) {
		if f.no() == x.No || x.ISO != 0 && f.Uint16(atFISO) == x.ISO {
			return file{}, desfire.Duplicate
		}
	}
	g, ok := a.take(s, need(x.Settings))
	if !ok {
		return file{}, desfire.OutOfMemory
	}
	f, set := file{g}, x.Settings
	b := binary.BigEndian.AppendUint32([]byte{slotFile}, owner.number())
	b = binary.BigEndian.AppendUint16(append(b, x.No), x.ISO)
	b = binary.BigEndian.AppendUint16(append(b, byte(set.Type), byte(set.Mode)), uint16(set.Access))
	g.Write(0, b)
	switch set.Type {
	case desfire.ValueFile:
		g.WriteUint32(atLower, uint32(set.Lower))
		g.WriteUint32(atUpper, uint32(set.Upper))
		g.WriteUint32(atValue, uint32(x.Value))
		g.WriteUint32(atLimited, uint32(set.Limited))
		flags := byte(0)
		if set.LimitedOn {
			flags |= flagLimited
		}
		if set.FreeValue {
			flags |= flagFreeValue
		}
		g.Write(atFlags, []byte{flags})
	case desfire.LinearFile, desfire.CyclicFile:
		f.put24(atSize, set.Size)
		f.put24(atMost, set.Max)
	default:
		f.put24(atSize, set.Size)
	}
	return f, desfire.OK
}

func (a *applet) deleteFile(s *card.Session, in []byte) answer {
	f, st := a.file(in[0])
	if st == desfire.OK {
		st = a.may(desfire.FreeCreate)
	}
	if st != desfire.OK {
		return says(st)
	}
	delete(a.tx, f.no())
	a.remove(f.Region)
	return a.settled(s, gives(nil))
}

// changeFile is CHANGE FILE SETTINGS: mode 1 | access 2, plain when the change
// is free, else enciphered.
func (a *applet) changeFile(_ *card.Session, cmd byte, in []byte) answer {
	if len(in) < 1 {
		return says(desfire.WrongLength)
	}
	f, st := a.file(in[0])
	if st != desfire.OK {
		return says(st)
	}
	key := f.access().Change()
	mode := desfire.Plain
	if _, st = a.use(f, key); key != desfire.Free {
		mode = desfire.Enciphered
	}
	var data []byte
	if st == desfire.OK {
		data, st = a.opened(cmd, in[:1], in[1:], 3, mode)
	}
	switch {
	case st != desfire.OK:
		return says(st)
	case data[0] > byte(desfire.Enciphered):
		return says(desfire.Parameter)
	}
	f.Write(atMode, []byte{data[0], data[2], data[1]})
	return gives(nil)
}
