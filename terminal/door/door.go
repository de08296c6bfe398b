// Package door is the reader of a door: it authenticates a DESFire card with the
// key of that card, reads the credential enciphered, and decides by the signed
// plan of its site who may pass at what hour. It needs no host and writes nothing
// on the card; every passage, opened or refused, goes into a bounded log that
// survives power loss. Start with Door.Tap.
package door

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"koala/spec/desfire"
	"koala/spec/iso7816"
	"koala/terminal"
)

// Budget is what a tap may take: a door that takes longer is pushed against.
const Budget = 500 * time.Millisecond

// ErrSite says that a plan is for another site.
var ErrSite = errors.New("door: the plan is for another site")

// A Config is a door's. Zero rate and costs take their defaults.
type Config struct {
	Door  uint32
	Site  uint32
	Clock terminal.Clock
	Rand  io.Reader
	Plans ed25519.PublicKey // signs the site's plans

	Reader      desfire.Key // the doors' master key; each card's is derived from it
	Credentials [16]byte    // the access host's MAC key

	Plan, Log *terminal.Flash // the plan at least 2 sectors, the log 4

	// Unlogged lets the door open when its log is full. Otherwise it stays shut
	// until the log has been fetched.
	Unlogged bool

	Rate   terminal.Rate
	Costs  terminal.Costs
	Record bool // keep every tap's dialogue
}

// A Door is one device. After an error wrapping terminal.ErrPower it is dead:
// give its flash power and make a new one over it.
type Door struct {
	cfg   Config
	bank  *terminal.Bank
	plan  desfire.Plan
	log   *terminal.Shelf
	meter terminal.Meter
	count uint32 // of passages named since power came on
}

// New starts a door over what its flash holds.
func New(cfg Config) (*Door, error) {
	d := &Door{cfg: cfg, bank: terminal.OpenBank(cfg.Plan), meter: terminal.NewMeter(cfg.Rate, cfg.Costs, costs(), cfg.Record)}
	var err error
	if pack := d.bank.Value(); pack != nil {
		if d.plan, err = desfire.ParsePlan(pack); err != nil {
			return nil, fmt.Errorf("door %d: %w", cfg.Door, err)
		}
	}
	if d.log, err = terminal.OpenShelf(cfg.Log, desfire.PassageLen, d.entryKey); err != nil {
		return nil, fmt.Errorf("door %d: %w", cfg.Door, err)
	}
	return d, nil
}

// entryKey names a passage for the shelf. No two are the same one: a card that
// comes twice in a second has passed twice.
func (d *Door) entryKey(wire []byte) (string, error) {
	if _, err := desfire.ParsePassage(wire); err != nil {
		return "", err
	}
	d.count++
	return string(binary.BigEndian.AppendUint32(nil, d.count)), nil
}

// costs is what a card computes at a door: a session key and a block or two per
// command. Parameters of the model, as in package terminal.
func costs() terminal.Costs {
	return terminal.AESCosts(map[byte]terminal.Work{
		desfire.CmdAuthAES: {Blocks: 3}, desfire.CmdMore: {Blocks: 6}, desfire.CmdReadData: {Blocks: 6},
	})
}

// Load takes a new plan: a signed pack of this site. A cut leaves the old plan
// or the new one.
func (d *Door) Load(pack []byte) error {
	p, err := desfire.OpenPlan(d.cfg.Plans, pack)
	switch {
	case err != nil:
		return err
	case p.Site != d.cfg.Site:
		return fmt.Errorf("plan of site %d at site %d: %w", p.Site, d.cfg.Site, ErrSite)
	}
	if err := d.bank.Put(p.Version, pack[:len(pack)-ed25519.SignatureSize]); err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	d.plan = p
	return nil
}

// Plan is the plan in use; version 0 before the first.
func (d *Door) Plan() desfire.Plan { return d.plan }

// Dialogue is the last tap's, if the Config asked to keep it.
func (d *Door) Dialogue() []terminal.Exchange { return d.meter.Dialogue }

// Waiting is the number of passages not released yet.
func (d *Door) Waiting() int { return d.log.Waiting() }

// Batch is the oldest passages as the door hands them over. They stay until
// Release.
func (d *Door) Batch(limit int) (desfire.PassageBatch, error) {
	first, list, err := terminal.ReadBatch(d.log, min(limit, desfire.MaxPassageBatch), desfire.ParsePassage)
	if err != nil {
		err = fmt.Errorf("door %d: %w", d.cfg.Door, err)
	}
	return desfire.PassageBatch{Door: d.cfg.Door, First: first, Passages: list}, err
}

// Release forgets the passages up to and including a place in the log.
func (d *Door) Release(upto uint32) error { return d.log.Release(upto) }

// Tap serves one card. The error is for the device, never for the card: after
// terminal.ErrPower the door is dead, and shut.
func (d *Door) Tap(card iso7816.Transmit) (Outcome, error) {
	send := d.meter.Tap(card)
	o := Outcome{At: d.cfg.Clock.Now(), Door: d.cfg.Door}
	full := d.log.Room()
	switch {
	case full != nil && !terminal.NoRoom(full):
		return o, fmt.Errorf("door %d: %w", d.cfg.Door, full)
	case full != nil && !d.cfg.Unlogged:
		o.Result, o.Reason = terminal.OutOfService, LogFull
		return o, nil
	case d.plan.Version == 0:
		o.Result, o.Reason = terminal.OutOfService, NoPlan
		return o, nil
	}
	d.decide(desfire.NewHost(terminal.Complete(send), d.cfg.Rand), &o)
	o.Took = d.meter.Took
	if o.Result == terminal.TryAgain || o.Reason == NoCard || full != nil {
		return o, nil // nothing to log, or nowhere
	}
	p := desfire.Passage{
		Card: o.Card, Person: o.Person, Door: d.cfg.Door, At: desfire.StampOf(o.At),
		Opened: o.Result == terminal.Opened, Reason: byte(o.Reason),
	}
	if _, err := d.log.Keep(p.Bytes()); err != nil {
		o.Result = terminal.OutOfService
		return o, fmt.Errorf("door %d: %w", d.cfg.Door, err)
	}
	return o, nil
}

// decide reads the card and the plan.
func (d *Door) decide(h *desfire.Host, o *Outcome) {
	c, err := d.read(h, o)
	if err != nil {
		o.fail(err)
		return
	}
	o.Result = terminal.Refused
	if c.Verify(d.cfg.Credentials, o.Card) != nil {
		o.Reason = NotGenuine
		return
	}
	o.Person = c.Person
	day := desfire.StampOf(o.At)
	_, denied := d.plan.Deny(o.Card)
	ever, now := d.plan.Admits(c.Person, d.cfg.Door, o.At)
	switch {
	case denied:
		o.Reason = Denied
	case c.Site != d.cfg.Site:
		o.Reason = OtherSite
	case string(c.From[:]) > string(day[:4]):
		o.Reason = NotYetValid
	case string(c.To[:]) < string(day[:4]):
		o.Reason = Expired
	case !ever:
		o.Reason = NotThisDoor
	case !now:
		o.Reason = NotNow
	default:
		o.Result = terminal.Opened
	}
}

// read authenticates the card and takes the credential out of it. The card's
// UID comes from its version: a card that lies about it has another key.
func (d *Door) read(h *desfire.Host, o *Outcome) (c desfire.Credential, err error) {
	if err := h.Open(); err != nil {
		return c, because(NoCard, err)
	}
	v, err := h.Version()
	if err != nil {
		return c, because(NoCard, err)
	}
	o.Card = v.UID
	if err := h.Select(desfire.DoorAID); err != nil {
		return c, because(NoCredential, err)
	}
	key := desfire.CardKey(d.cfg.Reader, v.UID, desfire.DoorAID, desfire.DoorSystem)
	if err := h.Authenticate(desfire.DoorReader, key); err != nil {
		return c, because(NotGenuine, err)
	}
	data, err := h.ReadData(desfire.DoorCredential, 0, desfire.CredentialLen, desfire.Enciphered)
	if err != nil {
		return c, because(CardRefused, err)
	}
	if c, err = desfire.ParseCredential(data); err != nil {
		return c, because(NoCredential, err)
	}
	return c, nil
}
