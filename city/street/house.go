package street

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"koala/acquiring"
	"koala/hsm"
	"koala/internal/db"
	"koala/spec/coupon"
	"koala/spec/desfire"
	"koala/spec/emv"
	"koala/terminal"
	"koala/terminal/kernel"
	"koala/web/device"
)

// A setup is what the house told a device at its installation, in the house's
// own words (docs/device-door.md). Its keys are wrapped; transport opens them,
// in the device's secure memory.
type setup struct {
	TID      string `json:"tid"`
	MID      string `json:"mid"`
	Site     uint32 `json:"site"`
	Merchant string `json:"merchant"`
	Packs    string `json:"packs"`
	CA       []struct {
		RID       string           `json:"rid"`
		Index     byte             `json:"index"`
		Modulus   string           `json:"modulus"`
		Exponent  string           `json:"exponent"`
		Hash      string           `json:"hash"`
		Algorithm emv.KeyAlgorithm `json:"algorithm"`
	} `json:"ca"`
	Keys []struct {
		Use   hsm.TerminalUse `json:"use"`
		Block string          `json:"block"`
	} `json:"keys"`
	Transport []byte `json:"transport,omitempty"` // as the installer brought it; never the house's

	// Of a device that was installed before keys came wrapped.
	Cards   string `json:"cards,omitempty"`
	Version byte   `json:"version,omitempty"`
	Own     string `json:"own,omitempty"`
}

var (
	errSetup  = errors.New("street: what the house said at the installation does not read")
	errAnswer = errors.New("street: what the house said about a doubt does not read")
)

// octets reads n bytes of hexadecimal.
func octets(s string, n int) ([]byte, error) {
	b, err := hex.DecodeString(s)
	if err != nil || n >= 0 && len(b) != n {
		return nil, errSetup
	}
	return b, nil
}

// read takes what the house said; the transport key is not its to say.
func (s *setup) read(raw []byte) error {
	said := setup{}
	if err := json.Unmarshal(raw, &said); err != nil {
		return err
	}
	said.Transport, said.Cards, said.Own = s.Transport, "", ""
	*s = said
	return nil
}

// packs is the key that the house signs lists, menus and plans with.
func (s setup) packs() (ed25519.PublicKey, error) { return octets(s.Packs, ed25519.PublicKeySize) }

// key unwraps a key and tells its version.
func (s setup) key(use hsm.TerminalUse) (key [16]byte, version byte, err error) {
	if len(s.Transport) != len(hsm.TransportKey{}) {
		return s.clear(use)
	}
	k := hsm.TerminalKey{Use: use, TID: s.TID}
	if use == hsm.CouponMerchant {
		merchant, err := octets(s.Merchant, len(k.Merchant))
		if err != nil {
			return key, 0, err
		}
		k.Merchant = coupon.ID(merchant)
	}
	for _, x := range s.Keys {
		if x.Use == use {
			block, err := octets(x.Block, -1)
			if err != nil {
				return key, 0, err
			}
			return hsm.OpenInjected(k, hsm.TransportKey(s.Transport), block)
		}
	}
	return key, 0, errSetup
}

// clear is a key of a device that was installed before keys came wrapped: it
// works on until staff open it for another installation.
func (s setup) clear(use hsm.TerminalUse) (key [16]byte, version byte, err error) {
	text := s.Own
	if use == hsm.TillCards || use == hsm.DoorReader {
		text = s.Cards
	}
	b, err := octets(text, len(key))
	copy(key[:], b)
	return key, s.Version, err
}

// cards is the root of the keys by which the device opens cards.
func (s setup) cards(use hsm.TerminalUse) (desfire.Key, error) {
	key, version, err := s.key(use)
	return desfire.AESKey(key, version), err
}

// installer brings a device its transport key, which the house's staff open it
// for installation with.
func (s *Street) installer(ctx context.Context, a *Acceptor) error {
	form, err := s.House().Acquiring.Transport(ctx, a.TID())
	if err != nil {
		return err
	}
	if form, err = hsm.ParseTransportForm(form.Text()); err != nil {
		return err
	}
	key, err := form.Key()
	a.setup = setup{Transport: key[:]}
	return err
}

// authorities are the keys of certification authorities that the till trusts:
// the schemes' and the house's own.
func (s setup) authorities() ([]emv.CAKey, error) {
	keys := emv.CAKeys()
	for _, x := range s.CA {
		k := emv.CAKey{Index: x.Index, Algorithm: x.Algorithm}
		rid, err1 := octets(x.RID, len(k.RID))
		hash, err2 := octets(x.Hash, len(k.Hash))
		var err3, err4 error
		k.Modulus, err3 = octets(x.Modulus, -1)
		k.Exponent, err4 = octets(x.Exponent, -1)
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			return nil, err
		}
		copy(k.RID[:], rid)
		copy(k.Hash[:], hash)
		keys = append(keys, k)
	}
	return keys, nil
}

// equip installs a device: the installer brings it its transport key, the house
// hands it its keys wrapped under that, once, and it fetches its packs. When the
// answer was lost, nobody knows who has it: staff open the device for another
// installation.
func (s *Street) equip(ctx context.Context, a *Acceptor) error {
	a.blank()
	tid := a.TID()
	err := s.Insist(func() error {
		err := s.installer(ctx, a)
		if err == nil {
			var raw []byte
			if raw, err = s.ask(ctx, a, http.MethodPost, "install", nil); err == nil {
				return a.setup.read(raw)
			}
		}
		again := s.House().Store.Write(ctx, func(tx *db.Tx) error {
			return acquiring.SetState(tx, tid, acquiring.Registered, staff, "its installation was interrupted")
		})
		if again == nil && (errors.Is(err, ErrHouse) || errors.Is(err, acquiring.ErrState)) {
			err = fmt.Errorf("%w: %w", ErrWire, err)
		}
		return err
	})
	if err == nil {
		err = a.boot()
	}
	if err == nil {
		err = s.Insist(func() error { return s.refresh(ctx, a) })
	}
	if err != nil {
		return fmt.Errorf("installing %s: %w", a.ID, err)
	}
	return nil
}

// addresses are what a kind of device asks its packs under and hands its
// records over to.
var addresses = map[Kind]struct{ packs, records string }{
	Till: {"exceptions", "sales"}, CanteenTill: {"menu", "meals"}, Door: {"plan", "passages"}, CouponDesk: {"", "redemptions"},
}

// Refresh fetches what is new of a device's packs.
func (s *Street) Refresh(ctx context.Context, id string) error {
	a, err := s.Acceptor(ctx, id)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.on(); err != nil {
		return err
	}
	if err := s.refresh(ctx, a); err != nil {
		return err
	}
	return s.keepAcceptor(a)
}

// maxDeltas bounds how many deltas of a list are fetched in a row.
const maxDeltas = 50

func (s *Street) refresh(ctx context.Context, a *Acceptor) error {
	for range maxDeltas {
		have, load := a.dev.pack()
		if load == nil {
			return nil
		}
		pack, err := s.ask(ctx, a, http.MethodGet, fmt.Sprintf("%s?have=%d", addresses[a.Kind].packs, have), nil)
		if err != nil || len(pack) == 0 {
			return err
		}
		if err := load(pack); err != nil && !errors.Is(err, terminal.ErrOld) {
			return fmt.Errorf("%s: %w", a.ID, err)
		}
		if now, _ := a.dev.pack(); now == have {
			return nil
		}
	}
	return nil
}

// HandIn hands a device's records over to the house until none are left, and
// the cases it does not know the end of: a till's when the card's log has shown
// them, a canteen's all, and ends those that the desk has decided. It gives how many records the house acknowledged.
func (s *Street) HandIn(ctx context.Context, id string) (n int, err error) {
	a, err := s.Acceptor(ctx, id)
	if err != nil {
		return 0, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.on(); err != nil {
		return 0, err
	}
	if n, err = s.drain(ctx, a); err != nil {
		return n, err
	}
	switch t := a.dev.(type) {
	case *till:
		return n, s.report(ctx, a, t)
	case meals:
		if err := s.endMeals(ctx, a, t); err != nil {
			return n, err
		}
		k, err := s.drain(ctx, a) // what has just been ended
		return n + k, err
	}
	return n, nil
}

// drain hands over until no record is left, or none is acknowledged.
func (s *Street) drain(ctx context.Context, a *Acceptor) (n int, err error) {
	for a.dev != nil && a.dev.waiting() > 0 {
		k, err := s.handIn(ctx, a)
		n += k
		if err != nil || k == 0 {
			return n, err
		}
	}
	return n, nil
}

func (s *Street) handIn(ctx context.Context, a *Acceptor) (int, error) {
	body, err := a.dev.batch()
	if err != nil {
		return 0, s.failed(a, err)
	}
	raw, err := s.ask(ctx, a, http.MethodPost, addresses[a.Kind].records, body)
	if err != nil {
		return 0, err
	}
	var answer struct {
		Release uint32 `json:"release"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return 0, fmt.Errorf("%s: %w", a.ID, err)
	}
	before := a.dev.waiting()
	if err := a.dev.release(answer.Release); err != nil {
		return 0, s.failed(a, err)
	}
	return before - a.dev.waiting(), s.keepAcceptor(a)
}

// failed is the error of a device that works without a card: a power failure is
// none, the device is dark and comes back.
func (s *Street) failed(a *Acceptor, err error) error {
	if errors.Is(err, terminal.ErrPower) {
		a.dev = nil
		return s.keepAcceptor(a)
	}
	return fmt.Errorf("%s: %w", a.ID, err)
}

// report gives the desk the sales that a card's log shows as paid and whose
// cryptogram is lost; the till forgets them.
func (s *Street) report(ctx context.Context, a *Acceptor, t *till) error {
	type doubt struct {
		Record string `json:"record"`
		Paid   bool   `json:"paid"`
	}
	for _, d := range t.Doubts() {
		if !d.Paid {
			continue // its card may come back
		}
		wire, err := d.MarshalBinary()
		if err != nil {
			return fmt.Errorf("%s: %w", a.ID, err)
		}
		body, err := json.Marshal([]doubt{{base64.StdEncoding.EncodeToString(wire), d.Paid}})
		if err != nil {
			return err
		}
		if _, err := s.ask(ctx, a, http.MethodPost, "doubts", body); err != nil {
			return err
		}
		if err := t.Settle(d); err != nil {
			return s.failed(a, err)
		}
		if err := s.keepAcceptor(a); err != nil {
			return err
		}
	}
	return nil
}

// endMeals tells the desk the sales whose card has not come back to a canteen's
// till, and ends those that have been decided since.
func (s *Street) endMeals(ctx context.Context, a *Acceptor, t meals) error {
	list, err := t.Doubts()
	if err != nil {
		return s.failed(a, err)
	}
	type doubt struct {
		Sale string `json:"sale"`
	}
	for _, d := range list {
		body, err := json.Marshal([]doubt{{base64.StdEncoding.EncodeToString(d.Bytes())}})
		if err != nil {
			return err
		}
		raw, err := s.ask(ctx, a, http.MethodPost, "doubts", body)
		if err != nil {
			return err
		}
		var answer []struct {
			State acquiring.DoubtState `json:"state"`
		}
		if err := json.Unmarshal(raw, &answer); err != nil || len(answer) != 1 {
			return fmt.Errorf("%s: the answer to a doubt: %w", a.ID, errors.Join(err, errAnswer))
		}
		if state := answer[0].State; state == acquiring.DoubtPaid || state == acquiring.DoubtDropped {
			if err := t.Resolve(d.Seq, state == acquiring.DoubtPaid); err != nil {
				return s.failed(a, err)
			}
		}
	}
	return s.keepAcceptor(a)
}

// authorise asks the card's issuer by way of the house.
func (s *Street) authorise(ctx context.Context, a *Acceptor, request []byte) (k kernel.Answer, err error) {
	raw, err := s.ask(ctx, a, http.MethodPost, "authorise", request)
	if err != nil {
		return k, err
	}
	var answer struct {
		ARC string `json:"arc"`
		EMV string `json:"emv"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return k, fmt.Errorf("%s: %w", a.ID, err)
	}
	k.ARC = answer.ARC
	k.Data, err = octets(answer.EMV, -1)
	return k, err
}

// ask makes one request of a shop's device.
func (s *Street) ask(ctx context.Context, a *Acceptor, method, what string, body []byte) ([]byte, error) {
	if a.token == "" {
		var err error
		if a.token, err = s.House().DeviceToken(ctx, device.KindTill, a.TID()); err != nil {
			return nil, err
		}
	}
	return s.send(ctx, a.ID, method, base+"/tills/"+a.TID()+"/"+what, a.token, body)
}

// send makes one request of a device.
func (s *Street) send(ctx context.Context, id, method, url, token string, body []byte) ([]byte, error) {
	bad := func(err error) ([]byte, error) { return nil, fmt.Errorf("device %s: %w", id, err) }
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return bad(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := s.client.Do(req)
	if err != nil {
		return bad(err)
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	if err != nil {
		return bad(err)
	}
	if res.StatusCode/100 != 2 {
		return bad(fmt.Errorf("%s: %w: %s: %s", req.URL.Path, ErrHouse, res.Status, out))
	}
	return out, nil
}
