package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"

	"koala/internal/clock"
	"koala/pcsc"
	"koala/spec/iso7816"
	"koala/terminal"
)

// A cardSlot is where a till meets cards.
type cardSlot interface {
	// present waits for a card and powers it.
	present(ctx context.Context) (iso7816.Transmit, error)
	leave() // power goes
	close()
}

func (f *posFlags) slot(cmd *cobra.Command) (cardSlot, error) {
	switch {
	case f.reader != "":
		c, err := pcsc.Dial(cmd.Context(), "")
		if err != nil {
			return nil, fmt.Errorf("%w; without a reader a band can be the card: koala band serve --listen ADDRESS", err)
		}
		return &pcscSlot{client: c, name: f.reader, contact: f.contact}, nil
	case f.connect != "":
		return &virtualSlot{dial: f.connect, contact: f.contact}, nil
	}
	l, err := net.Listen("tcp", f.listen)
	if err != nil {
		return nil, err
	}
	return &virtualSlot{listener: l, contact: f.contact}, nil
}

// rightInterface refuses a card that is on the other interface than the sale
// wants. Readers make up an answer to reset for contactless cards, which have
// none: 3B 8n 80 01 (PC/SC part 3, 3.1.3.2.3.1).
func rightInterface(atr []byte, contact bool) error {
	tapped := len(atr) >= 4 && atr[0] == 0x3B && atr[1]&0xF0 == 0x80 && atr[2] == 0x80 && atr[3] == 0x01
	switch {
	case contact && tapped:
		return errUsage{errors.New("the card is held to a contactless reader: leave --contact out, or serve the band with --personality contact-t1")}
	case !contact && !tapped:
		return errUsage{errors.New("the card is on its contacts: give --contact, or serve the band with --personality contactless")}
	}
	return nil
}

// pcscSlot is a reader of pcscd.
type pcscSlot struct {
	client  *pcsc.Client
	name    string
	contact bool // the sale is for inserted cards
	card    *pcsc.Connection
}

func (s *pcscSlot) present(ctx context.Context) (iso7816.Transmit, error) {
	state, err := s.client.WaitCard(ctx, s.name)
	if err != nil {
		return nil, err
	}
	if err := rightInterface(state.ATR, s.contact); err != nil {
		return nil, err
	}
	if s.card, err = s.client.Connect(state.Name, true); err != nil {
		return nil, err
	}
	return s.card.Transmit, nil
}

func (s *pcscSlot) leave() {
	if s.card != nil {
		_ = s.card.Close() // a card that has left cannot be powered off
		s.card = nil
	}
}

func (s *pcscSlot) close() { s.client.Close() }

// Controls of the virtual reader's protocol, frames of one byte.
const (
	vpcdOff = 0x00
	vpcdOn  = 0x01
	vpcdATR = 0x04
)

// Bounds of waiting for a virtual card.
const (
	virtualAnswer = 10 * time.Second // for one answer
	virtualAgain  = 100 * time.Millisecond
)

// A virtualSlot is the reader's end of the vsmartcard protocol: cards dial it
// (listener), or it dials a card that waits (dial).
type virtualSlot struct {
	listener net.Listener
	dial     string
	contact  bool // the sale is for inserted cards
	conn     net.Conn
	stop     func() bool
}

func (s *virtualSlot) present(ctx context.Context) (iso7816.Transmit, error) {
	for {
		if s.conn == nil {
			if err := s.meet(ctx); err != nil {
				return nil, err
			}
		}
		if atr, err := s.power(); err == nil {
			return s.transmit, rightInterface(atr, s.contact)
		}
		s.drop() // the card has gone since; another may come
	}
}

// meet waits for the connection of a card.
func (s *virtualSlot) meet(ctx context.Context) (err error) {
	if s.listener != nil {
		end := context.AfterFunc(ctx, func() { s.listener.Close() })
		defer end()
		s.conn, err = s.listener.Accept()
	} else {
		d := net.Dialer{Timeout: phonePatience}
		s.conn, err = d.DialContext(ctx, "tcp", s.dial)
	}
	if ctx.Err() != nil {
		return errors.New("stopped before a card was there")
	}
	switch {
	case err != nil && s.listener == nil:
		return fmt.Errorf("no card at %s: %w; a band waits there with koala band serve --listen %s", s.dial, err, s.dial)
	case err != nil:
		return fmt.Errorf("waiting for a card: %w", err)
	}
	conn := s.conn
	s.stop = context.AfterFunc(ctx, func() { conn.Close() })
	return nil
}

// power gives the card power and wants its ATR.
func (s *virtualSlot) power() ([]byte, error) {
	if err := s.send([]byte{vpcdOn}); err != nil {
		return nil, err
	}
	if err := s.send([]byte{vpcdATR}); err != nil {
		return nil, err
	}
	atr, err := s.receive()
	if err == nil && len(atr) == 0 {
		err = io.ErrUnexpectedEOF
	}
	return atr, err
}

func (s *virtualSlot) transmit(c iso7816.Command) (iso7816.Response, error) {
	if s.conn == nil {
		return iso7816.Response{}, iso7816.ErrTorn
	}
	err := s.send(c.Bytes())
	var raw []byte
	if err == nil {
		raw, err = s.receive()
	}
	if err != nil {
		s.drop()
		return iso7816.Response{}, fmt.Errorf("%w: %w", iso7816.ErrTorn, err)
	}
	return iso7816.ParseResponse(raw)
}

func (s *virtualSlot) send(body []byte) error {
	if len(body) > 0xFFFF {
		return fmt.Errorf("a command of %d bytes does not fit a frame", len(body))
	}
	if err := s.conn.SetDeadline(clock.System().Now().Add(virtualAnswer)); err != nil {
		return err
	}
	_, err := s.conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(body))), body...))
	return err
}

func (s *virtualSlot) receive() ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(s.conn, size[:]); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(s.conn, body)
	return body, err
}

func (s *virtualSlot) leave() {
	if s.conn != nil {
		_ = s.send([]byte{vpcdOff}) // a card that is gone has no power anyway
	}
}

func (s *virtualSlot) drop() {
	if s.conn != nil {
		s.stop()
		s.conn.Close()
		s.conn = nil
	}
}

func (s *virtualSlot) close() {
	s.drop()
	if s.listener != nil {
		s.listener.Close()
	}
}

// A tillFlash is what a till remembers, in a file when it has one.
type tillFlash struct {
	path                 string
	sales, denied, state *terminal.Flash
	unlock               func()
}

// tillImage is the file: three images of flash.
type tillImage struct {
	Sales  []byte `json:"sales"`
	Denied []byte `json:"denied"`
	State  []byte `json:"state"`
}

// salesSectors of 4 KB are the till's store.
const salesSectors = 16

func openTill(path string) (*tillFlash, error) {
	t := &tillFlash{path: path, sales: terminal.NewFlash(salesSectors), denied: terminal.NewFlash(4), state: terminal.NewFlash(2), unlock: func() {}}
	if path == "" {
		return t, nil
	}
	var err error
	if t.unlock, err = lockFile(path, "used"); err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	var image tillImage
	if err == nil {
		err = json.Unmarshal(raw, &image)
	}
	for _, x := range []struct {
		flash **terminal.Flash
		image []byte
	}{{&t.sales, image.Sales}, {&t.denied, image.Denied}, {&t.state, image.State}} {
		if err == nil {
			*x.flash, err = terminal.RestoreFlash(x.image)
		}
	}
	if err != nil {
		t.unlock()
		return nil, fmt.Errorf("%s is no till's: %w", path, err)
	}
	return t, nil
}

// keep writes the file.
func (t *tillFlash) keep() error {
	if t.path == "" {
		return nil
	}
	raw, err := json.Marshal(tillImage{t.sales.Image(), t.denied.Image(), t.state.Image()})
	if err != nil {
		return err
	}
	return replaceFile(t.path, raw)
}

func (t *tillFlash) close() { t.unlock() }
