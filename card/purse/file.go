package purse

import (
	"koala/card"
	"koala/spec/iso7816"
	"koala/spec/purse"
)

// Names of the Beijing card's directories.
const (
	fileMF       = 0x3F00
	nameBeijing  = "1PAY.SYS.DDF01" // of the MF
	maxShortRead = 256
)

// transparent gives the bytes of a transparent file that exists.
func (a *applet) transparent(sfi byte) (at, n int, ok bool) {
	switch sfi {
	case purse.SFIBeijing:
		return atBeijing, purse.BeijingFileLen, a.has(fileBeijing)
	case purse.SFIPublic:
		return atPublic, purse.File15Len, a.has(filePublic)
	case purse.SFIHolder:
		return atHolder, holderLen, a.has(fileHolder)
	case purse.SFIRegion:
		return atRegion, purse.File17Len, a.has(fileRegion)
	}
	return 0, 0, false
}

// records gives the record reader of a record file.
func (a *applet) records(sfi byte) (func(i int) []byte, int) {
	switch sfi {
	case purse.SFILog:
		return func(i int) []byte { return logFile.record(a.cells, i) }, logFile.count
	case purse.SFITrip:
		return func(i int) []byte { return tripFile.record(a.cells, i) }, tripFile.count
	case purse.SFILocal:
		return func(i int) []byte { return localFile.record(a.cells, i) }, localFile.count
	case purse.SFITransit:
		return func(i int) []byte { return transitFile.record(a.cells, i) }, transitFile.count
	}
	return nil, 0
}

// noBinary and noRecords say why a file cannot be read in that way.
func (a *applet) noBinary(sfi byte) iso7816.SW {
	if read, _ := a.records(sfi); read != nil {
		return iso7816.SWFileType
	}
	return iso7816.SWFileNotFound
}

func (a *applet) noRecords(sfi byte) iso7816.SW {
	if _, _, ok := a.transparent(sfi); ok || sfi == purse.SFILog {
		return iso7816.SWFileType
	}
	return iso7816.SWFileNotFound
}

// selectFile is SELECT by file identifier: on a Beijing card the MF and DF 1001
// (one purse, reached by either way), and elementary files by their identifier.
func (a *applet) selectFile(c iso7816.Command) iso7816.Response {
	if c.P1 > 0x02 || len(c.Data) != 0 && len(c.Data) != 2 {
		return fails(iso7816.SWP1P2)
	}
	id := uint16(fileMF)
	if len(c.Data) == 2 {
		id = uint16(c.Data[0])<<8 | uint16(c.Data[1])
	}
	switch {
	case id == fileMF && a.has(fileBeijing):
		a.current = 0
		return answer(purse.FCI{AID: []byte(nameBeijing)}.Bytes())
	case id == purse.FileBeijingDF && a.has(fileBeijing):
		a.current = 0
		return answer(purse.FCI{AID: purse.NameBeijingDF}.Bytes())
	case id > 0x1F:
		return fails(iso7816.SWFileNotFound)
	}
	_, _, ok := a.transparent(byte(id))
	if read, _ := a.records(byte(id)); !ok && read == nil {
		return fails(iso7816.SWFileNotFound)
	}
	a.current = byte(id)
	return answer(nil)
}

// SelectDirectory finds the purse of a Beijing card by its name, as readers do
// that know no other way into it.
func (a *applet) SelectDirectory(s *card.Session, name string) ([]byte, bool) {
	a.open(s)
	if !a.has(fileBeijing) || a.cells.Bytes()[atBlock] != 0 || name != string(purse.NameBeijingDF) {
		return nil, false
	}
	a.op, a.challenge, a.current = operation{}, nil, 0
	return purse.FCI{AID: purse.NameBeijingDF}.Bytes(), true
}

// place resolves P1 P2 of READ and UPDATE BINARY to file and offset.
func (a *applet) place(c iso7816.Command) (sfi byte, off int) {
	if c.P1&0x80 != 0 {
		return c.P1 & 0x1F, int(c.P2)
	}
	return a.current, int(c.P1)<<8 | int(c.P2)
}

func (a *applet) readBinary(c iso7816.Command) iso7816.Response {
	sfi, off := a.place(c)
	at, n, ok := a.transparent(sfi)
	switch {
	case sfi == 0:
		return fails(iso7816.SWNoFile)
	case !ok:
		return fails(a.noBinary(sfi))
	case len(c.Data) != 0 || c.Le == iso7816.NoLe:
		return fails(iso7816.SWLength)
	case off >= n:
		return fails(iso7816.SWOffset)
	}
	le := n - off
	if c.Le != 0 && c.Le != iso7816.MaxExtendedLe {
		if c.Le > le {
			return fails(iso7816.Exact(le))
		}
		le = c.Le
	}
	return answer(append([]byte(nil), a.cells.Bytes()[at+off:at+off+le]...))
}

// readRecord is READ RECORD by number (P2 …4), by first byte of the identifier
// (P2 …0) or, as some readers try first, all from a number on (P2 …5).
func (a *applet) readRecord(c iso7816.Command) iso7816.Response {
	sfi := c.P2 >> 3
	if sfi == 0 {
		sfi = a.current
	}
	read, count := a.records(sfi)
	switch {
	case sfi == 0:
		return fails(iso7816.SWNoFile)
	case read == nil:
		return fails(a.noRecords(sfi))
	case len(c.Data) != 0 || c.Le == iso7816.NoLe:
		return fails(iso7816.SWLength)
	}
	var rec []byte
	switch c.P2 & 0x07 {
	case 0x00:
		for i := 1; i <= count && rec == nil; i++ {
			if r := read(i); len(r) > 0 && r[0] == c.P1 {
				rec = r
			}
		}
	case 0x04:
		rec = read(int(c.P1))
	case 0x05:
		for i := max(int(c.P1), 1); i <= count && len(rec)+len(read(i)) <= maxShortRead; i++ {
			rec = append(rec[:len(rec):len(rec)], read(i)...)
		}
	default:
		return fails(iso7816.SWP1P2)
	}
	switch {
	case len(rec) == 0:
		return fails(iso7816.SWRecordNotFound)
	case c.Le != 0 && c.Le != iso7816.MaxExtendedLe && c.Le != len(rec):
		return fails(iso7816.Exact(len(rec)))
	}
	return answer(append([]byte(nil), rec...))
}

// update is UPDATE BINARY, UPDATE RECORD and APPEND RECORD: only with a MAC
// under the maintenance key, and never on the log.
func (a *applet) update(c iso7816.Command) iso7816.Response {
	if c.CLA != 0x04 {
		return fails(iso7816.SWSecurity)
	}
	plain, sw := a.unprotect(c)
	if sw != iso7816.OK {
		return fails(sw)
	}
	if len(plain.Data) == 0 {
		return fails(iso7816.SWLength)
	}
	if plain.INS == iso7816.InsUpdateBinary {
		return fails(a.updateBinary(plain))
	}
	return fails(a.updateRecord(plain))
}

func (a *applet) updateBinary(c iso7816.Command) iso7816.SW {
	sfi, off := a.place(c)
	at, n, ok := a.transparent(sfi)
	switch {
	case sfi == 0:
		return iso7816.SWNoFile
	case !ok:
		return a.noBinary(sfi)
	case off+len(c.Data) > n:
		return iso7816.SWOffset
	}
	a.cells.Write(at+off, c.Data)
	return iso7816.OK
}

func (a *applet) updateRecord(c iso7816.Command) iso7816.SW {
	sfi := c.P2 >> 3
	if sfi == 0 {
		sfi = a.current
	}
	appends := c.INS == iso7816.InsAppendRecord
	f := localFile
	switch sfi {
	case 0:
		return iso7816.SWNoFile
	case purse.SFITrip:
		if !appends && c.P1 != 0 {
			return iso7816.SWFileType // a cyclic file grows at its head only
		}
		if len(c.Data) != purse.TripLen {
			return iso7816.SWLength
		}
		tripFile.add(a.cells, c.Data)
		return iso7816.OK
	case purse.SFITransit:
		f = transitFile
	case purse.SFILocal:
	default:
		return a.noRecords(sfi)
	}
	if appends {
		return a.appendRecord(f, c.Data)
	}
	slot := int(c.P1)
	if c.P2&0x07 == 0 {
		slot = f.find(a.cells, c.P1)
	}
	old := f.record(a.cells, slot)
	switch {
	case len(old) == 0:
		return iso7816.SWRecordNotFound
	case len(old) != len(c.Data):
		return iso7816.SWLength
	}
	f.write(a.cells, slot, c.Data)
	return iso7816.OK
}

// appendRecord opens a record for another industry. Its identifier must be new.
func (a *applet) appendRecord(f linear, rec []byte) iso7816.SW {
	if len(rec) > f.size || f.find(a.cells, rec[0]) != 0 {
		return iso7816.SWData
	}
	for i := 1; i <= f.count; i++ {
		if len(f.record(a.cells, i)) == 0 {
			f.write(a.cells, i, rec)
			return iso7816.OK
		}
	}
	return iso7816.SWNoSpace
}
