package foreign

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"
	"time"

	"koala/calendar"
	"koala/spec/clearing"
)

// ErrBooks says that the file of a host's books is damaged or another host's.
var ErrBooks = errors.New("foreign: the file does not hold the books of this institution")

// books is the file that a host keeps. A line is what one message changed, with
// a check sum before it: what stands of each act and card now, not the message,
// so that a later rule reads an older file as it was. A line that power or a
// kill cut off is the last one and of a message nobody was answered.
type books struct {
	f      *os.File
	broken error // no more is answered than is kept
}

type (
	keptLine struct {
		Acts  []keptAct           `json:"acts,omitempty"`
		Cards map[string]keptCard `json:"cards,omitempty"`
	}
	keptCard struct {
		Fen  int64 `json:"fen"`
		Lost bool  `json:"lost,omitempty"`
	}
	keptAct struct {
		Key    string          `json:"key"`
		Of     string          `json:"of,omitempty"`
		Record clearing.Record `json:"record"`
		Code   string          `json:"code"`
		Extra  map[int]string  `json:"extra,omitempty"`
		Day    calendar.Date   `json:"day"`
		At     time.Time       `json:"at"`
		Left   int64           `json:"left,omitempty"`
		Held   int64           `json:"held,omitempty"`
		Back   int64           `json:"back,omitempty"`
		Ended  bool            `json:"ended,omitempty"`
		Empty  bool            `json:"empty,omitempty"`
		Never  bool            `json:"never,omitempty"` // given up before it came
	}
)

// head is the first line of the file: it says that nothing in it is real.
func (h *Host) head() []byte {
	return fmt.Appendf(nil, "koala: books of the simulated institution %s %s, form 1\n", h.cfg.Institution, h.cfg.Name)
}

// recall reads the file and opens it for what comes.
func (h *Host) recall() error {
	if h.cfg.Books == "" {
		return nil
	}
	f, err := os.OpenFile(h.cfg.Books, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("books of %s: %w", h.cfg.Name, err)
	}
	whole, err := h.replay(f)
	if err == nil {
		err = f.Truncate(whole)
	}
	if err == nil {
		_, err = f.Seek(whole, io.SeekStart)
	}
	if err == nil && whole == 0 {
		_, err = f.Write(h.head())
	}
	if err != nil {
		f.Close()
		return fmt.Errorf("books of %s, %s: %w", h.cfg.Name, h.cfg.Books, err)
	}
	h.books.f = f
	return nil
}

// replay takes every whole line and gives the length of them all.
func (h *Host) replay(f io.Reader) (whole int64, err error) {
	in := bufio.NewReaderSize(f, 1<<16)
	of := map[*act]string{}
	for first := true; ; first = false {
		line, err := in.ReadBytes('\n')
		switch {
		case errors.Is(err, io.EOF) && first && !bytes.HasPrefix(h.head(), line):
			return 0, ErrBooks
		case errors.Is(err, io.EOF): // what stands behind the last line end was cut off
			for a, key := range of {
				if a.of = h.acts[key]; a.of == nil {
					return 0, fmt.Errorf("%w: an original is missing", ErrBooks)
				}
			}
			return whole, nil
		case err != nil:
			return 0, err
		case first && !bytes.Equal(line, h.head()):
			return 0, ErrBooks
		case !first:
			if err := h.take(line, of); err != nil {
				return 0, fmt.Errorf("at byte %d: %w", whole, err)
			}
		}
		whole += int64(len(line))
	}
}

// take reads one line.
func (h *Host) take(line []byte, of map[*act]string) error {
	var sum uint32
	var k keptLine
	if len(line) < 10 {
		return ErrBooks
	}
	text := line[9:]
	if n, err := fmt.Sscanf(string(line[:9]), "%08x ", &sum); n != 1 || err != nil || crc32.ChecksumIEEE(text) != sum {
		return ErrBooks
	}
	if err := json.Unmarshal(text, &k); err != nil {
		return fmt.Errorf("%w: %w", ErrBooks, err)
	}
	for number, c := range k.Cards {
		*h.card(number) = card{c.Fen, c.Lost}
	}
	for _, x := range k.Acts {
		a := h.acts[x.Key]
		if a == nil {
			a = &act{}
			h.acts[x.Key] = a
			if !x.Never {
				h.order = append(h.order, a)
			}
		}
		*a = act{key: x.Key, record: x.Record, code: x.Code, extra: x.Extra, day: x.Day, at: x.At, left: x.Left, held: x.Held, back: x.Back,
			ended: x.Ended, empty: x.Empty, never: x.Never}
		if a.extra == nil {
			a.extra = map[int]string{}
		}
		if delete(of, a); x.Of != "" {
			of[a] = x.Of
		}
	}
	return nil
}

// keep writes down what stands now of acts and cards, as one line; h.mu is held.
func (h *Host) keep(acts []*act, cards ...string) {
	if h.books.f == nil || h.books.broken != nil {
		return
	}
	k := keptLine{Cards: map[string]keptCard{}}
	for i, a := range acts {
		if a == nil || a.key == "" || slices.Contains(acts[:i], a) {
			continue
		}
		x := keptAct{Key: a.key, Record: a.record, Code: a.code, Extra: a.extra, Day: a.day, At: a.at, Left: a.left, Held: a.held, Back: a.back,
			Ended: a.ended, Empty: a.empty, Never: a.never}
		if a.of != nil {
			x.Of = a.of.key
		}
		k.Acts = append(k.Acts, x)
	}
	for _, number := range cards {
		if c := h.cards[number]; c != nil {
			k.Cards[number] = keptCard{c.fen, c.lost}
		}
	}
	text, err := json.Marshal(k)
	if err == nil {
		text = append(text, '\n')
		_, err = h.books.f.Write(append(fmt.Appendf(nil, "%08x ", crc32.ChecksumIEEE(text)), text...))
	}
	if err == nil {
		err = h.books.f.Sync()
	}
	if err != nil {
		h.books.broken = fmt.Errorf("books of %s: %w", h.cfg.Name, err)
	}
}

// Close gives the file back. A host without one needs no closing.
func (h *Host) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.books.f == nil {
		return nil
	}
	if h.books.broken == nil {
		h.books.broken = fmt.Errorf("books of %s: %w", h.cfg.Name, os.ErrClosed)
	}
	return h.books.f.Close()
}
