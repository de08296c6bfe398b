package transit

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"koala/calendar"
	"koala/fare"
	"koala/internal/db"
	"koala/settlement"
	"koala/spec/purse"
	"koala/transit/network"
)

// A DeviceKind is what a device does.
type DeviceKind string

// The kinds of devices.
const (
	EntryGate DeviceKind = "entry"
	ExitGate  DeviceKind = "exit"
	Machine   DeviceKind = "service" // repairs rides at a station
	OnBus     DeviceKind = "bus"
)

// A Stop of a bus route, in metres from its first.
type Stop struct {
	Code   fare.Code `json:"code"`
	Metres int       `json:"metres"`
}

// A Route is what a bus drives; FlatFen zero charges by distance.
type Route struct {
	Line    uint16 `json:"line,omitempty"`
	FlatFen int64  `json:"flat_fen,omitempty"`
	Stops   []Stop `json:"stops,omitempty"`
}

// metres is the length of a bus journey; a missing exit rides to the end.
func (r Route) metres(j *Journey) (int, error) {
	from, to := -1, -1
	for _, s := range r.Stops {
		if s.Code == j.From {
			from = s.Metres
		}
		if s.Code == j.To {
			to = s.Metres
		}
	}
	if j.Finish == MissingExit && len(r.Stops) > 0 {
		to = r.Stops[len(r.Stops)-1].Metres
	}
	if from < 0 || to < 0 {
		return 0, fmt.Errorf("stops %s, %s of route %d: %w", j.From, j.To, r.Line, network.ErrUnknown)
	}
	return max(to-from, from-to), nil
}

// A Device is a gate, a machine or a bus as the registry knows it.
type Device struct {
	Terminal purse.Terminal
	Kind     DeviceKind
	Station  fare.Code // of gates and machines
	Operator string    // payee of settlement
	Route    Route     // of buses
	// What it last said about itself.
	Seen        time.Time
	Waiting     int // debits in its store
	Number      uint32
	DenyVersion uint32
	DenyAt      time.Time // when its deny list was made
	PackVersion uint32
}

// Lag is how long ago the device was heard of, at now.
func (d Device) Lag(now time.Time) time.Duration {
	if d.Seen.IsZero() {
		return 0
	}
	return now.Sub(d.Seen)
}

// SetUp opens the accounts of the operators of the network and the suspense
// account. It may run at every start.
func (b Books) SetUp(tx *db.Tx) error {
	for _, o := range b.Net.OperatorIDs() {
		if err := settlement.Join(tx, o.ID, o.EN); err != nil {
			return fmt.Errorf("operator %s: %w", o.ID, err)
		}
	}
	return openSuspense(tx)
}

// Register enters a device, or changes what it is.
func (b Books) Register(tx *db.Tx, d Device) error {
	bad := func(why string) error { return fmt.Errorf("device %s: %s: %w", d.Terminal, why, ErrDevice) }
	switch d.Kind {
	case EntryGate, ExitGate, Machine:
		s, ok := b.Net.ByCode(d.Station)
		if !ok {
			return bad("station " + d.Station.String())
		}
		if d.Operator == "" {
			o, err := b.Net.OperatorOf(s.Lines[0], calendar.ServiceDay(tx.Now()))
			if err != nil {
				return err
			}
			d.Operator = o.ID
		}
	case OnBus:
		if d.Route.FlatFen < 0 || d.Route.FlatFen == 0 && len(d.Route.Stops) < 2 || len(d.Route.Stops) > 1000 {
			return bad("route")
		}
	default:
		return bad("kind " + string(d.Kind))
	}
	if d.Operator == "" || d.Terminal == (purse.Terminal{}) {
		return bad("no operator or terminal number")
	}
	if err := settlement.Join(tx, d.Operator, operatorName(b.Net, d.Operator)); err != nil {
		return fmt.Errorf("device %s: %w", d.Terminal, err)
	}
	route, err := json.Marshal(d.Route)
	if err != nil {
		return fmt.Errorf("device %s: %w", d.Terminal, err)
	}
	return putDevice(tx, d, route)
}

func operatorName(net *network.Network, id string) string {
	for _, o := range net.OperatorIDs() {
		if o.ID == id {
			return o.EN
		}
	}
	return id
}

// A Beat is what a device says about itself when it calls.
type Beat struct {
	Terminal    purse.Terminal
	Waiting     int
	DenyVersion uint32
	DenyAt      time.Time
	PackVersion uint32
}

// Heard keeps a device's beat.
func (b Books) Heard(tx *db.Tx, beat Beat) error { return beatDevice(tx, beat) }

// Pack returns the signed tariff pack that station's gates should hold now:
// the table followed by its signature. It is made when there is none for the
// tariff in force; nil when have is it already.
func (o *Office) Pack(ctx context.Context, station fare.Code, have uint32) ([]byte, error) {
	s, ok := o.books.Net.ByCode(station)
	if !ok {
		return nil, fmt.Errorf("pack of %s: %w", station, network.ErrUnknown)
	}
	t, err := fare.At(o.store.Now())
	if err != nil {
		return nil, err
	}
	var last pack
	err = o.store.Read(ctx, func(q *db.Query) (err error) {
		last, err = lastPack(q, s.Code())
		return err
	})
	switch {
	case err != nil && !errors.Is(err, db.ErrNoRows):
		return nil, fmt.Errorf("pack of %s: %w", station, err)
	case err == nil && last.tariff == t.ID && last.version == have:
		return nil, nil
	case err == nil && last.tariff == t.ID:
		return last.body, nil
	}
	return o.makePack(ctx, s, t, last.version+1)
}

func (o *Office) makePack(ctx context.Context, s *network.Station, t fare.Tariff, version uint32) ([]byte, error) {
	from := fare.Day{Date: calendar.ServiceDay(o.store.Now())}
	if from.Before(t.From.Date) {
		from = t.From
	}
	table, err := o.books.Net.Table(s, t, version, from, t.To)
	if err != nil {
		return nil, err
	}
	body, err := table.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	if body, err = o.sign(ctx, body); err != nil {
		return nil, fmt.Errorf("pack of %s: %w", s.Code(), err)
	}
	p := pack{version: version, tariff: t.ID, body: body}
	err = o.store.Write(ctx, func(tx *db.Tx) (err error) {
		p, err = insertPack(tx, s.Code(), p)
		return err
	})
	return p.body, err
}

// sign appends the Ed25519 signature, 64 bytes.
func (o *Office) sign(ctx context.Context, body []byte) ([]byte, error) {
	sig, err := o.keys.Sign(ctx, label, body)
	if err != nil {
		return nil, err
	}
	if len(sig) != ed25519.SignatureSize {
		return nil, fmt.Errorf("signature of %d bytes: %w", len(sig), ErrDevice)
	}
	return append(body, sig...), nil
}
