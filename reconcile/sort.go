package reconcile

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"time"

	"koala/calendar"
	"koala/money"
)

// chunk is how many items are in memory at once, about 30 MB of them with their texts.
const chunk = 1 << 16

// A Sorted is items in the order of their keys: in memory when they are few,
// else in runs on disk that All merges.
type Sorted struct {
	few  []Item
	runs []*os.File
}

// Sort orders items by Key. More than a chunk of them are spilled into
// temporary files in dir (empty: the system's). Close what it returns.
func Sort(items iter.Seq2[Item, error], dir string) (*Sorted, error) {
	return sortBy(items, dir, chunk)
}

// SortBoth sorts two sides at once, each read on a goroutine of its own. Close
// both of what it returns.
func SortBoth(ours, theirs iter.Seq2[Item, error], dir string) (o, t *Sorted, err error) {
	done := make(chan error, 1)
	go func() {
		var err error
		t, err = Sort(theirs, dir)
		done <- err
	}()
	o, err = Sort(ours, dir)
	if err = errors.Join(err, <-done); err != nil {
		for _, s := range []*Sorted{o, t} {
			if s != nil {
				s.Close()
			}
		}
		return nil, nil, err
	}
	return o, t, nil
}

func sortBy(items iter.Seq2[Item, error], dir string, room int) (s *Sorted, err error) {
	s = &Sorted{}
	defer func() {
		if err != nil {
			s.Close()
			s = nil
		}
	}()
	var n int
	for item, err := range items {
		if err != nil {
			return s, err
		}
		if n++; n > MaxItems {
			return s, fmt.Errorf("item %d: %w", n, ErrMany)
		}
		if len(s.few) == room {
			if err := s.spill(dir); err != nil {
				return s, err
			}
		}
		s.few = append(s.few, item)
	}
	order(s.few)
	return s, nil
}

// order sorts by key; what has the same key keeps its order. Items are wide, so
// their places are sorted and each item moves once.
func order(items []Item) {
	if isSorted(items) {
		return
	}
	place := make([]int32, len(items))
	for i := range place {
		place[i] = int32(i)
	}
	slices.SortFunc(place, func(a, b int32) int {
		if c := byKey(&items[a], &items[b]); c != 0 {
			return c
		}
		return int(a - b)
	})
	from := slices.Clone(items)
	for i, p := range place {
		items[i] = from[p]
	}
}

func isSorted(items []Item) bool {
	for i := 1; i < len(items); i++ {
		if byKey(&items[i-1], &items[i]) > 0 {
			return false
		}
	}
	return true
}

func byKey(a, b *Item) int {
	if a.RRN != "" && b.RRN != "" {
		return strings.Compare(a.RRN, b.RRN)
	}
	return strings.Compare(a.Key(), b.Key())
}

// spill writes what is in memory as a run.
func (s *Sorted) spill(dir string) error {
	f, err := os.CreateTemp(dir, "koala-reconcile-*")
	if err != nil {
		return fmt.Errorf("spilling a run: %w", err)
	}
	s.runs = append(s.runs, f)
	order(s.few)
	w := bufio.NewWriterSize(f, 1<<16)
	var line []byte
	for i := range s.few {
		line = appendItem(line[:0], &s.few[i])
		if _, err := w.Write(line); err != nil {
			return fmt.Errorf("spilling a run: %w", err)
		}
	}
	s.few = s.few[:0]
	if err := w.Flush(); err != nil {
		return fmt.Errorf("spilling a run: %w", err)
	}
	return nil
}

// Close removes what was spilled.
func (s *Sorted) Close() error {
	var errs []error
	for _, f := range s.runs {
		errs = append(errs, f.Close(), os.Remove(f.Name()))
	}
	s.runs, s.few = nil, nil
	return errors.Join(errs...)
}

// All reads the items in order, from the start at every call.
func (s *Sorted) All() iter.Seq2[Item, error] {
	if len(s.runs) == 0 {
		return List(s.few)
	}
	return func(yield func(Item, error) bool) {
		var heads []*head
		for _, f := range s.runs {
			h := &head{in: bufio.NewReaderSize(io.NewSectionReader(f, 0, 1<<62), 1<<16)}
			if err := h.read(); err != nil {
				yield(Item{}, err)
				return
			}
			heads = append(heads, h)
		}
		heads = append(heads, &head{rest: s.few, ok: len(s.few) > 0})
		if last := heads[len(heads)-1]; last.ok {
			last.item, last.rest = last.rest[0], last.rest[1:]
		}
		for {
			var least *head
			for _, h := range heads { // few runs: no heap is worth it
				if h.ok && (least == nil || byKey(&h.item, &least.item) < 0) {
					least = h
				}
			}
			if least == nil || !yield(least.item, nil) {
				return
			}
			if err := least.read(); err != nil {
				yield(Item{}, err)
				return
			}
		}
	}
}

// List reads a slice.
func List(items []Item) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		for i := range items {
			if !yield(items[i], nil) {
				return
			}
		}
	}
}

// A head is the front of one run: of a file, or of rest.
type head struct {
	in   *bufio.Reader
	rest []Item
	item Item
	ok   bool
	room []byte
}

func (h *head) read() (err error) {
	if h.in == nil {
		if h.ok = len(h.rest) > 0; h.ok {
			h.item, h.rest = h.rest[0], h.rest[1:]
		}
		return nil
	}
	var n [2]byte
	if _, err := io.ReadFull(h.in, n[:]); err != nil {
		h.ok = false
		if errors.Is(err, io.EOF) {
			return nil
		}
		return fmt.Errorf("reading a run: %w", err)
	}
	h.room = slices.Grow(h.room[:0], int(binary.BigEndian.Uint16(n[:])))[:binary.BigEndian.Uint16(n[:])]
	if _, err := io.ReadFull(h.in, h.room); err != nil {
		return fmt.Errorf("reading a run: %w", err)
	}
	h.item, h.ok = itemOf(h.room), true
	return nil
}

// appendItem codes an item of a run: two bytes of length, six numbers, then
// nine texts, each with a byte of length. Only itemOf reads it.
func appendItem(out []byte, x *Item) []byte {
	start := len(out)
	out = append(out, 0, 0)
	at := int64(0)
	if !x.At.IsZero() {
		at = x.At.UnixMicro()
	}
	for _, n := range [...]int64{x.Fen, x.Fee, x.Network, at, int64(x.Line), int64(x.Date.Year)<<16 | int64(x.Date.Month)<<8 | int64(x.Date.Day)} {
		out = binary.AppendVarint(out, n)
	}
	for _, s := range [...]string{x.RRN, x.Acquirer, x.TID, x.STAN, string(x.Kind), string(x.State), string(x.Currency), x.Class, x.Payee} {
		if len(s) > 255 {
			s = s[:255]
		}
		out = append(append(out, byte(len(s))), s...)
	}
	binary.BigEndian.PutUint16(out[start:], uint16(len(out)-start-2))
	return out
}

func itemOf(in []byte) (x Item) {
	var n [6]int64
	for i := range n {
		v, w := binary.Varint(in)
		n[i], in = v, in[w:]
	}
	all := string(in) // one allocation for all texts
	var s [9]string
	for i := range s {
		w := int(all[0])
		s[i], all = all[1:1+w], all[1+w:]
	}
	x = Item{RRN: s[0], Acquirer: s[1], TID: s[2], STAN: s[3], Kind: Kind(s[4]), State: State(s[5]), Currency: money.Currency(s[6]),
		Class: s[7], Payee: s[8], Fen: n[0], Fee: n[1], Network: n[2], Line: int(n[4])}
	if n[3] != 0 {
		x.At = time.UnixMicro(n[3]).UTC()
	}
	if n[5] != 0 {
		x.Date = calendar.Date{Year: int(n[5] >> 16), Month: time.Month(n[5] >> 8 & 0xFF), Day: int(n[5] & 0xFF)}
	}
	return x
}
