package card

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"
)

// A unit that is cut at any physical write is wholly there or wholly absent
// after recovery, and recovery may be cut at any of its own writes.
func TestUnitIsAllOrNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMemory(16 << 10)
		a, _ := m.Allocate(1, 1, 300)
		b, _ := m.Allocate(2, 1, 70)
		if err := m.Commit(); err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 8).Draw(t, "units") {
			before := bytes.Clone(m.cells[journalSize:])
			for range rapid.IntRange(1, 6).Draw(t, "writes") {
				r := rapid.SampledFrom([]Region{a, b}).Draw(t, "region")
				data := rapid.SliceOfN(rapid.Byte(), 1, r.size).Draw(t, "data")
				r.Write(rapid.IntRange(0, r.size-len(data)).Draw(t, "off"), data)
			}
			after := bytes.Clone(m.cells[journalSize:])
			m.CutAt(rapid.IntRange(0, 30).Draw(t, "cut"), rapid.IntRange(0, pageSize).Draw(t, "keep"))
			if err := m.Commit(); err != nil && !errors.Is(err, errCut) {
				t.Fatal(err)
			}
			for i := 0; m.recover() != nil; i++ {
				if i == 1 {
					t.Fatal("recovery was cut once but failed twice")
				}
			}
			got := m.cells[journalSize:]
			if !bytes.Equal(got, before) && !bytes.Equal(got, after) {
				t.Fatal("half a unit")
			}
			if m.cut = 0; m.recover() != nil || !bytes.Equal(got, m.cells[journalSize:]) {
				t.Fatal("a second recovery changed something")
			}
		}
	})
}

// Every cut of commit and recovery, one by one.
func TestCutAtEveryWriteOfCommitAndRecovery(t *testing.T) {
	unit := bytes.Repeat([]byte{0xA7}, 200)
	for keep := range pageSize + 1 {
		for n := 1; ; n++ {
			m := newMemory(0)
			r, _ := m.Allocate(1, 1, 256)
			_ = m.Commit()
			r.Write(20, unit)
			m.CutAt(n, keep)
			if err := m.Commit(); err == nil {
				break
			}
			for k := 1; ; k++ {
				m.CutAt(k, keep)
				if m.recover() == nil {
					break
				}
			}
			if got := r.Bytes()[20:220]; !bytes.Equal(got, unit) && !bytes.Equal(got, make([]byte, 200)) {
				t.Fatalf("cut %d keeping %d: half a unit %X", n, keep, got)
			}
		}
	}
}

func TestUnitLargerThanTheJournalIsRolledBack(t *testing.T) {
	m := newMemory(0)
	r, _ := m.Allocate(1, 1, journalSize)
	_ = m.Commit()
	r.Write(0, bytes.Repeat([]byte{1}, journalSize-100))
	r.Write(journalSize-100, bytes.Repeat([]byte{1}, 100))
	if err := m.Commit(); !errors.Is(err, ErrUnit) {
		t.Fatalf("%v", err)
	}
	if !bytes.Equal(r.Bytes(), make([]byte, journalSize)) {
		t.Error("something remained")
	}
	r.Write(0, []byte{2})
	if err := m.Commit(); err != nil {
		t.Errorf("the next unit: %v", err)
	}
}

// checkHeap proves that blocks do not overlap and that free cells are zero.
func checkHeap(t interface{ Fatalf(string, ...any) }, m *Memory) {
	end, lastFree := journalSize, false
	for b, ok := m.first(); ok; b, ok = m.after(b) {
		end = b.next()
		switch b.state {
		case blockUsed:
			lastFree = false
		case blockFree:
			if lastFree || len(bytes.Trim(m.cells[b.at+blockHeader:b.next()], "\x00")) > 0 {
				t.Fatalf("free block at %d is dirty or not joined", b.at)
			}
			lastFree = true
		default:
			t.Fatalf("block state %02X at %d", b.state, b.at)
		}
	}
	if lastFree || len(bytes.Trim(m.cells[end:], "\x00")) > 0 {
		t.Fatalf("cells beyond the chain are not fresh")
	}
}

// Regions are allocated and released in any order with power failing anywhere:
// what was committed keeps its contents, and nothing leaks.
func TestHeapKeepsRegions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMemory(8 << 10)
		all := m.Free()
		kept := map[ID][]byte{}
		for i := range rapid.IntRange(1, 25).Draw(t, "steps") {
			id := ID(rapid.IntRange(1, 6).Draw(t, "owner"))
			want, has := kept[id]
			m.CutAt(rapid.IntRange(0, 20).Draw(t, "cut"), rapid.IntRange(0, pageSize).Draw(t, "keep"))
			var next []byte
			if has {
				m.Release(id)
			} else if r, err := m.Allocate(id, 1, rapid.IntRange(1, 1200).Draw(t, "size")); err == nil {
				if len(bytes.Trim(r.Bytes(), "\x00")) > 0 {
					t.Fatalf("owner %d gets dirty cells", id)
				}
				next = bytes.Repeat([]byte{byte(i + 1)}, r.size)
				r.Write(0, next)
			}
			err := m.Commit()
			if err == nil {
				err = m.sweep()
			}
			for errors.Is(err, errCut) {
				err = m.recover()
			}
			m.cut = 0
			switch r := m.Region(id, 1); {
			case r.Present() && next != nil && bytes.Equal(r.Bytes(), next):
				kept[id] = next
			case r.Present() && !bytes.Equal(r.Bytes(), want):
				t.Fatalf("owner %d has %X", id, r.Bytes())
			case !r.Present():
				delete(kept, id)
			}
			for id, want := range kept {
				if !bytes.Equal(m.Region(id, 1).Bytes(), want) {
					t.Fatalf("owner %d lost its region", id)
				}
			}
			checkHeap(t, m)
		}
		for id := range kept {
			m.Release(id)
		}
		if m.Commit() != nil || m.sweep() != nil || m.Free() != all {
			t.Fatalf("%d bytes free of %d", m.Free(), all)
		}
	})
}
