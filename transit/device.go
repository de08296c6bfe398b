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
	Number      uint32 // of its last debit
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
// account. It runs at every start.
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

// HasPack keeps that a device called and which tariff pack it holds, and
// returns the device.
func (o *Office) HasPack(ctx context.Context, t purse.Terminal, version uint32) (Device, error) {
	return o.heard(ctx, t, func(tx *db.Tx) error { return heardPack(tx, t, version) })
}

// HasDeny is HasPack for the version of the deny list.
func (o *Office) HasDeny(ctx context.Context, t purse.Terminal, version uint32) (Device, error) {
	return o.heard(ctx, t, func(tx *db.Tx) error { return heardDeny(tx, t, version) })
}

func (o *Office) heard(ctx context.Context, t purse.Terminal, keep func(*db.Tx) error) (d Device, err error) {
	err = o.store.Write(ctx, func(tx *db.Tx) error {
		if err := keep(tx); err != nil {
			return err
		}
		d, err = DeviceOf(tx, t)
		return err
	})
	return d, err
}

// Pack returns the signed tariff pack that the gates of station should hold
// now: the table followed by its signature, made when there is none for the
// tariff in force; nil when have is it.
func (o *Office) Pack(ctx context.Context, station fare.Code, have uint32) ([]byte, error) {
	s, ok := o.Net.ByCode(station)
	if !ok {
		return nil, fmt.Errorf("pack of %s: %w", station, network.ErrUnknown)
	}
	t, err := fare.At(o.store.Now())
	if err != nil {
		return nil, err
	}
	var last pack
	err = o.store.Read(ctx, func(q *db.Query) (err error) {
		last, err = lastPack(q, station)
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
	return o.makePack(ctx, s, station, t, last.version+1)
}

func (o *Office) makePack(ctx context.Context, s *network.Station, at fare.Code, t fare.Tariff, version uint32) ([]byte, error) {
	from := fare.Day{Date: calendar.ServiceDay(o.store.Now())}
	if from.Before(t.From.Date) {
		from = t.From
	}
	table, err := o.Net.Table(s, t, version, from, t.To)
	if err != nil {
		return nil, err
	}
	table.Station = at // by the code that the gates there know themselves by
	body, err := table.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	if body, err = o.sign(ctx, body); err != nil {
		return nil, fmt.Errorf("pack of %s: %w", at, err)
	}
	p := pack{version: version, tariff: t.ID, body: body}
	err = o.store.Write(ctx, func(tx *db.Tx) (err error) {
		p, err = insertPack(tx, at, p)
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

func putDevice(tx *db.Tx, d Device, route []byte) error {
	_, err := tx.Exec(`INSERT INTO transit_device (terminal, kind, station, operator, route, seen, number, deny, pack)
		VALUES ($1, $2, $3, $4, $5, 0, 0, 0, 0)
		ON CONFLICT (terminal) DO UPDATE SET kind = excluded.kind, station = excluded.station, operator = excluded.operator, route = excluded.route`,
		d.Terminal.String(), string(d.Kind), int64(d.Station), d.Operator, string(route))
	return err
}

func heardPack(tx *db.Tx, t purse.Terminal, have uint32) error {
	_, err := tx.Exec(`UPDATE transit_device SET seen = $2, pack = $3 WHERE terminal = $1`, t.String(), micros(tx.Now()), int64(have))
	return err
}

func heardDeny(tx *db.Tx, t purse.Terminal, have uint32) error {
	_, err := tx.Exec(`UPDATE transit_device SET seen = $2, deny = $3 WHERE terminal = $1`, t.String(), micros(tx.Now()), int64(have))
	return err
}

func heardDebit(tx *db.Tx, t purse.Terminal, number uint32) error {
	_, err := tx.Exec(`UPDATE transit_device SET seen = $2, number = CASE WHEN number > $3 THEN number ELSE $3 END WHERE terminal = $1`,
		t.String(), micros(tx.Now()), int64(number))
	return err
}

// A pack is a signed tariff table.
type pack struct {
	version uint32
	tariff  string
	body    []byte
}

func lastPack(q db.Reader, station fare.Code) (p pack, err error) {
	err = q.QueryRow(`SELECT version, tariff, body FROM transit_pack WHERE station = $1 ORDER BY version DESC LIMIT 1`, int64(station)).
		Scan(&p.version, &p.tariff, &p.body)
	return p, err
}

// insertPack keeps p, or returns the one that was made meanwhile.
func insertPack(tx *db.Tx, station fare.Code, p pack) (pack, error) {
	n, err := tx.Exec(`INSERT INTO transit_pack (station, version, tariff, made, body) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (station, version) DO NOTHING`, int64(station), int64(p.version), p.tariff, micros(tx.Now()), p.body)
	if err != nil || n == 1 {
		return p, err
	}
	return lastPack(tx, station)
}
