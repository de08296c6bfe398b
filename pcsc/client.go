package pcsc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"koala/spec/iso7816"
)

// DefaultSocket is where pcscd listens. The environment variable
// PCSCLITE_CSOCK_NAME names another place, as it does for every program.
const DefaultSocket = "/run/pcscd/pcscd.comm"

// pollTime is how often WaitCard looks.
const pollTime = 100 * time.Millisecond

// A Client is a connection to pcscd. It belongs to one goroutine; its context
// ends every wait.
type Client struct {
	conn    net.Conn
	stop    func() bool
	context uint32
	minor   uint32 // of the protocol spoken, 3 to 5
}

// Dial connects to pcscd: protocol 4:5, 4:4 and 4:3 are tried in that order.
// An empty socket is the usual one. When ctx ends, the connection does.
func Dial(ctx context.Context, socket string) (*Client, error) {
	if socket == "" {
		socket = os.Getenv("PCSCLITE_CSOCK_NAME")
	}
	if socket == "" {
		socket = DefaultSocket
	}
	var err error
	for _, minor := range []uint32{5, 4, 3} {
		var c *Client
		if c, err = dial(ctx, socket, minor); err == nil || !errors.Is(err, errVersion) {
			return c, err
		}
	}
	return nil, err
}

// errVersion says that the service wants another minor version.
var errVersion = errors.New("pcsc: protocol version")

func dial(ctx context.Context, socket string, minor uint32) (*Client, error) {
	d := net.Dialer{Timeout: dialTime}
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("pcsc: is pcscd running? %w", err)
	}
	c := &Client{conn: conn, minor: minor}
	c.stop = context.AfterFunc(ctx, func() { conn.Close() })
	if err := c.greet(); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Client) greet() error {
	s, err := c.call(cmdVersion, numbers(4, c.minor, 0))
	if err == nil && s.result() == resultStopped {
		return fmt.Errorf("%w: %w: it speaks %d:%d", ErrService, errVersion, s.at(0), s.at(1))
	}
	if err == nil {
		const system = 2 // SCARD_SCOPE_SYSTEM
		s, err = c.checked(cmdEstablish, numbers(system, 0, 0))
	}
	if err != nil {
		return err
	}
	c.context = s.at(1)
	return nil
}

// Close releases what the service keeps for the client.
func (c *Client) Close() error {
	defer c.stop()
	if c.context != 0 {
		late := time.AfterFunc(bodyTime, func() { c.conn.Close() })
		defer late.Stop()
		_, _ = c.call(cmdRelease, numbers(c.context, 0)) // the service forgets it with the socket anyway
	}
	return c.conn.Close()
}

// call sends a structure and gives its answer, whatever the result.
func (c *Client) call(command uint32, body structure) (structure, error) {
	if err := send(c.conn, command, body, nil); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrService, err)
	}
	s, err := receive(c.conn, len(body))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrService, err)
	}
	return s, nil
}

// checked is a call whose result must be good.
func (c *Client) checked(command uint32, body structure) (structure, error) {
	s, err := c.call(command, body)
	if err != nil {
		return nil, err
	}
	switch r := s.result(); {
	case r == resultOK:
		return s, nil
	case r == resultNoCard, r == resultUnknownReader, r == resultUnavailable, r == resultNoReaders:
		return nil, fmt.Errorf("%w: %v", ErrNoCard, r)
	case r.torn():
		return nil, fmt.Errorf("%w: %w: %v", ErrService, iso7816.ErrTorn, r)
	default:
		return nil, fmt.Errorf("%w: %v", ErrService, r)
	}
}

// Readers lists the readers and what is in them.
func (c *Client) Readers() ([]ReaderState, error) {
	if err := send(c.conn, cmdReaderStates, nil, nil); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrService, err)
	}
	table, err := receive(c.conn, maxReaders*stateSize)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrService, err)
	}
	return parseStates(table), nil
}

// WaitCard waits until a card is in a reader whose name contains part, any if
// part is empty, and gives that reader.
func (c *Client) WaitCard(ctx context.Context, part string) (ReaderState, error) {
	for {
		list, err := c.Readers()
		if err != nil {
			return ReaderState{}, err
		}
		i := slices.IndexFunc(list, func(r ReaderState) bool { return r.Present && strings.Contains(r.Name, part) })
		if i >= 0 {
			return list[i], nil
		}
		if pause(ctx, pollTime); ctx.Err() != nil {
			return ReaderState{}, fmt.Errorf("%w %q: %w", ErrNoCard, part, ctx.Err())
		}
	}
}

// Sharing modes and protocols (SCARD_SHARE_..., SCARD_PROTOCOL_...).
const (
	shareExclusive = 1
	shareShared    = 2
	protocolT0     = 1
	protocolT1     = 2
)

// How a card is left (SCARD_LEAVE_CARD and so on).
const (
	leaveCard   = 0
	resetCard   = 1
	unpowerCard = 2
)

// A Connection is a card in a reader that the client talks to.
type Connection struct {
	c        *Client
	handle   uint32
	share    uint32
	protocol uint32
}

// Connect opens the card in the reader of exactly that name: for this client
// alone when exclusive, else shared with others.
func (c *Client) Connect(reader string, exclusive bool) (*Connection, error) {
	if len(reader) >= nameSize {
		return nil, fmt.Errorf("%w: reader name of %d bytes", ErrNoCard, len(reader))
	}
	share := uint32(shareShared)
	if exclusive {
		share = shareExclusive
	}
	body := append(numbers(c.context), reader...)
	body = append(body, make([]byte, 4+nameSize-len(body))...)
	body = append(body, numbers(share, protocolT0|protocolT1, 0, 0, 0)...)
	s, err := c.checked(cmdConnect, body)
	if err != nil {
		return nil, fmt.Errorf("connecting to %q: %w", reader, err)
	}
	n := len(s)/4 - 3
	return &Connection{c: c, handle: s.at(n), share: share, protocol: s.at(n + 1)}, nil
}

// T0 tells whether the card speaks T=0.
func (k *Connection) T0() bool { return k.protocol == protocolT0 }

// Reset resets the card; what it had selected is gone.
func (k *Connection) Reset() error { return k.reconnect(resetCard) }

// Repower takes the power away and gives it back.
func (k *Connection) Repower() error { return k.reconnect(unpowerCard) }

func (k *Connection) reconnect(how uint32) error {
	s, err := k.c.checked(cmdReconnect, numbers(k.handle, k.share, protocolT0|protocolT1, how, 0, 0))
	if err != nil {
		return fmt.Errorf("resetting the card: %w", err)
	}
	k.protocol = s.at(4)
	return nil
}

// Begin keeps other programs away from the card until End.
func (k *Connection) Begin() error {
	_, err := k.c.checked(cmdBegin, numbers(k.handle, 0))
	return err
}

// End lets them back.
func (k *Connection) End() error {
	_, err := k.c.checked(cmdEnd, numbers(k.handle, leaveCard, 0))
	return err
}

// Close leaves the card; power goes when nobody else uses it.
func (k *Connection) Close() error {
	_, err := k.c.checked(cmdDisconnect, numbers(k.handle, unpowerCard, 0))
	return err
}

// Raw sends a command as it is and gives the whole answer. The error wraps
// iso7816.ErrTorn when nothing is known of the command any more.
func (k *Connection) Raw(command []byte) ([]byte, error) {
	const pciSize = 16 // of SCARD_IO_REQUEST on 64 bits
	body := numbers(k.handle, k.protocol, pciSize, uint32(len(command)), protocolT0|protocolT1, pciSize, maxAnswer, 0)
	if err := send(k.c.conn, cmdTransmit, body, command); err != nil {
		return nil, fmt.Errorf("%w: %w", iso7816.ErrTorn, err)
	}
	s, err := receive(k.c.conn, len(body))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", iso7816.ErrTorn, err)
	}
	n := s.at(6)
	switch r := s.result(); {
	case r.torn():
		return nil, fmt.Errorf("%w: %v", iso7816.ErrTorn, r)
	case r != resultOK:
		return nil, fmt.Errorf("%w: %v", ErrService, r)
	case n > maxAnswer:
		return nil, fmt.Errorf("%w: an answer of %d bytes", ErrService, n)
	}
	answer, err := receive(k.c.conn, int(n))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", iso7816.ErrTorn, err)
	}
	return answer, nil
}

// Transmit sends one command; it is an iso7816.Transmit. Under T=0 it does what
// a driver of ISO 7816-3, 12.2 does: no Le beside data, 6Cxx asks again, 61xx
// is fetched until the whole answer is there.
func (k *Connection) Transmit(c iso7816.Command) (iso7816.Response, error) {
	if k.T0() && len(c.Data) > 0 && !c.Extended {
		c.Le = iso7816.NoLe
	}
	r, err := k.once(c)
	if err != nil || !k.T0() {
		return r, err
	}
	if n, ok := r.SW.Exact(); ok {
		c.Le = n & 0xFF
		if r, err = k.once(c); err != nil {
			return r, err
		}
	}
	return k.fetch(c.CLA, r)
}

// fetch collects an answer that the card holds back.
func (k *Connection) fetch(cla byte, r iso7816.Response) (iso7816.Response, error) {
	whole := r.Data
	for fresh := true; len(whole) <= maxAnswer && fresh; fresh = len(r.Data) > 0 {
		n, ok := r.SW.More()
		if !ok {
			break
		}
		next := iso7816.GetResponse(n & 0xFF)
		next.CLA = cla & 0x03 // of the same logical channel
		var err error
		if r, err = k.once(next); err != nil {
			return r, err
		}
		whole = append(whole, r.Data...)
	}
	r.Data = whole
	return r, nil
}

func (k *Connection) once(c iso7816.Command) (iso7816.Response, error) {
	raw, err := k.Raw(c.Bytes())
	if err != nil {
		return iso7816.Response{}, err
	}
	return iso7816.ParseResponse(raw)
}
