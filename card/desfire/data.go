package desfire

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"

	"koala/card"
	"koala/spec/desfire"
)

// A change is what waits for one file until COMMIT TRANSACTION.
type change struct {
	debits, credits, limited int64 // of a value file; limited is part of credits
	parts                    []part
	record                   []byte // of a record file, nil when none is begun
	clear                    bool   // of a record file
}

// A part is bytes for a place in a backup file.
type part struct {
	at   int
	data []byte
}

// A transaction is the changes by file number.
type transaction map[byte]*change

// weight is what a change takes of a unit, in bytes with their headers.
func (c *change) weight() int {
	n := 48 + len(c.record)
	for _, p := range c.parts {
		n += 8 + len(p.data)
	}
	return n
}

// of finds or begins the change of a file; false when n more bytes would not
// fit into one unit of the element.
func (a *applet) changeOf(f file, n int) (*change, bool) {
	for _, c := range a.tx {
		n += c.weight()
	}
	if c, ok := a.tx[f.no()]; ok {
		return c, n+8 <= desfire.MaxTransaction
	}
	if n+48 > desfire.MaxTransaction {
		return nil, false
	}
	if a.tx == nil {
		a.tx = transaction{}
	}
	c := new(change)
	a.tx[f.no()] = c
	return c, true
}

// readData is READ DATA: file 1 | offset 3 | length 3, length 0 for the rest.
func (a *applet) readData(_ *card.Session, in []byte) answer {
	f, st := a.file(in[0])
	if st == desfire.OK && f.kind() != desfire.StdFile && f.kind() != desfire.BackupFile {
		st = desfire.Parameter
	}
	if st != desfire.OK {
		return says(st)
	}
	mode, st := a.use(f, f.access().Read(), f.access().Both())
	off, n := le24(in[1:]), le24(in[4:])
	switch {
	case st != desfire.OK:
		return says(st)
	case off >= f.size() || n > f.size()-off:
		return says(desfire.Boundary)
	}
	whole := n == 0
	if whole {
		n = f.size() - off
	}
	return answer{data: bytes.Clone(f.Bytes()[atData+off : atData+off+n]), mode: mode, whole: whole}
}

func le24(b []byte) int { return int(b[0]) | int(b[1])<<8 | int(b[2])<<16 }

// write is WRITE DATA and WRITE RECORD: file 1 | offset 3 | length 3 | data, in
// as many frames as it takes.
func (a *applet) write(_ *card.Session, cmd byte, in []byte) answer {
	const head = 7
	if len(in) < head {
		return says(desfire.WrongLength)
	}
	f, st := a.file(in[0])
	if st == desfire.OK && f.isRecords() != (cmd == desfire.CmdWriteRecord) || st == desfire.OK && f.kind() == desfire.ValueFile {
		st = desfire.Parameter
	}
	if st != desfire.OK {
		return says(st)
	}
	mode, st := a.use(f, f.access().Write(), f.access().Both())
	off, n := le24(in[1:]), le24(in[4:])
	switch {
	case st != desfire.OK:
		return says(st)
	case n == 0:
		return says(desfire.Parameter)
	case off >= f.size() || n > f.size()-off:
		return says(desfire.Boundary)
	case n > desfire.MaxTransaction-64:
		return says(desfire.OutOfMemory)
	}
	if whole := head + a.session.CommandSize(n, mode); len(in) < whole {
		a.in = &incoming{cmd, bytes.Clone(in), whole}
		return says(desfire.More)
	}
	data, st := a.opened(cmd, in[:head], in[head:], n, mode)
	if st != desfire.OK {
		return says(st)
	}
	return says(a.put(f, off, data))
}

// put takes data for a file: a standard file at once, the others in the
// transaction.
func (a *applet) put(f file, off int, data []byte) desfire.Status {
	if f.kind() == desfire.StdFile {
		f.Write(atData+off, data)
		return desfire.OK
	}
	extra := len(data)
	if f.isRecords() {
		extra = f.size()
		if c := a.tx[f.no()]; c != nil && c.record != nil {
			extra = 0
		}
	}
	c, ok := a.changeOf(f, extra)
	if !ok {
		return desfire.OutOfMemory
	}
	if f.kind() == desfire.BackupFile {
		c.parts = append(c.parts, part{off, bytes.Clone(data)})
		return desfire.OK
	}
	most, now := f.records()
	switch {
	case c.clear:
		return desfire.Permission // a cleared file takes records after the commit
	case f.kind() == desfire.LinearFile && now == most:
		return desfire.Boundary
	case c.record == nil:
		c.record = make([]byte, f.size())
	}
	copy(c.record[off:], data)
	return desfire.OK
}

// record gives the n-th record of a record file, 0 the newest.
func (f file) record(n int) []byte {
	most, _ := f.records()
	at := atRecords + (f.get24(atPlace)-1-n+2*most)%most*f.size()
	return f.Bytes()[at : at+f.size()]
}

// readRecords is READ RECORDS: file 1 | newest to leave out 3 | records 3, 0
// for all; oldest first.
func (a *applet) readRecords(_ *card.Session, in []byte) answer {
	f, st := a.file(in[0])
	if st == desfire.OK && !f.isRecords() {
		st = desfire.Parameter
	}
	if st != desfire.OK {
		return says(st)
	}
	mode, st := a.use(f, f.access().Read(), f.access().Both())
	skip, n := le24(in[1:]), le24(in[4:])
	_, now := f.records()
	switch {
	case st != desfire.OK:
		return says(st)
	case skip >= now || n > now-skip:
		return says(desfire.Boundary)
	}
	whole := n == 0
	if whole {
		n = now - skip
	}
	var out []byte
	for i := skip + n - 1; i >= skip; i-- {
		out = append(out, f.record(i)...)
	}
	return answer{data: out, mode: mode, whole: whole}
}

func (a *applet) clearRecords(_ *card.Session, in []byte) answer {
	f, st := a.file(in[0])
	if st == desfire.OK && !f.isRecords() {
		st = desfire.Parameter
	}
	if st == desfire.OK {
		_, st = a.use(f, f.access().Both())
	}
	if st != desfire.OK {
		return says(st)
	}
	c, ok := a.changeOf(f, 0)
	if !ok {
		return says(desfire.OutOfMemory)
	}
	c.clear, c.record = true, nil
	return gives(nil)
}

func (a *applet) getValue(_ *card.Session, in []byte) answer {
	f, st := a.file(in[0])
	if st == desfire.OK && f.kind() != desfire.ValueFile {
		st = desfire.Parameter
	}
	if st != desfire.OK {
		return says(st)
	}
	keys := []byte{f.access().Read(), f.access().Write(), f.access().Both()}
	if f.settings().FreeValue {
		keys = append(keys, desfire.Free)
	}
	mode, st := a.use(f, keys...)
	if st != desfire.OK {
		return says(st)
	}
	return answer{data: binary.LittleEndian.AppendUint32(nil, uint32(f.value())), mode: mode}
}

// moveValue is CREDIT, DEBIT and LIMITED CREDIT: file 1 | value 4. Debits and
// credits of one transaction are held against the limits each by itself, so
// their order does not matter.
func (a *applet) moveValue(_ *card.Session, cmd byte, in []byte) answer {
	if len(in) < 1 {
		return says(desfire.WrongLength)
	}
	f, st := a.file(in[0])
	if st == desfire.OK && f.kind() != desfire.ValueFile {
		st = desfire.Parameter
	}
	if st != desfire.OK {
		return says(st)
	}
	keys := []byte{f.access().Both()}
	if cmd != desfire.CmdCredit {
		keys = append(keys, f.access().Write())
	}
	mode, st := a.use(f, keys...)
	if st != desfire.OK {
		return says(st)
	}
	data, st := a.opened(cmd, in[:1], in[1:], 4, mode)
	if st != desfire.OK {
		return says(st)
	}
	return says(a.move(f, cmd, int32(binary.LittleEndian.Uint32(data))))
}

func (a *applet) move(f file, cmd byte, v int32) desfire.Status {
	c, ok := a.changeOf(f, 0)
	set, n, now := f.settings(), int64(v), int64(f.value())
	switch {
	case !ok:
		return desfire.OutOfMemory
	case v < 0:
		return desfire.Parameter
	case cmd == desfire.CmdDebit:
		if now-c.debits-n < int64(set.Lower) {
			return desfire.Boundary
		}
		c.debits += n
		return desfire.OK
	case cmd == desfire.CmdLimitedCredit && !set.LimitedOn:
		return desfire.Permission
	case cmd == desfire.CmdLimitedCredit && c.limited+n > int64(set.Limited), now+c.credits+n > int64(set.Upper):
		return desfire.Boundary
	case cmd == desfire.CmdLimitedCredit:
		c.limited += n
	}
	c.credits += n
	return desfire.OK
}

// commit is COMMIT TRANSACTION: every change of every file in one unit.
func (a *applet) commit(*card.Session, []byte) answer {
	if len(a.tx) == 0 {
		return says(desfire.NoChange)
	}
	for _, no := range slices.Sorted(maps.Keys(a.tx)) {
		if f, st := a.file(no); st == desfire.OK {
			f.apply(a.tx[no])
		}
	}
	a.tx = nil
	return gives(nil)
}

func (f file) apply(c *change) {
	switch {
	case f.kind() == desfire.ValueFile:
		f.WriteUint32(atValue, uint32(int64(f.value())-c.debits+c.credits))
		if !f.settings().LimitedOn {
			return
		}
		limited := int64(f.Uint32(atLimited)) - c.limited
		if c.debits > 0 {
			limited = min(c.debits, 0x7FFFFFFF)
		}
		f.WriteUint32(atLimited, uint32(limited))
	case c.clear:
		f.put24(atNow, 0)
		f.put24(atPlace, 0)
	case c.record != nil:
		f.add(c.record)
	}
	for _, p := range c.parts {
		f.Write(atData+p.at, p.data)
	}
}

// add puts a record in the next place of its file.
func (f file) add(record []byte) {
	most, now := f.records()
	place := f.get24(atPlace)
	f.Write(atRecords+place*f.size(), record)
	f.put24(atPlace, (place+1)%most)
	f.put24(atNow, min(now+1, f.settings().Holds()))
}

// abort is ABORT TRANSACTION.
func (a *applet) abort(*card.Session, []byte) answer {
	if len(a.tx) == 0 {
		return says(desfire.NoChange)
	}
	a.tx = nil
	return gives(nil)
}
