package device_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"koala/acquiring"
	"koala/hsm"
	"koala/internal/db"
	"koala/spec/coupon"
	"koala/spec/desfire"
	"koala/spec/pboc"
	"koala/web/device"
)

// The devices of a small shop and its yard.
const (
	shopTill, shopDesk, yardTill, yardDoor = "30008900", "TEADESK1", "10010007", "00000305"
	shopMID                                = "898110058120001"
)

// furnish registers them.
func (d *door) furnish() {
	d.Helper()
	d.must(d.h.Store.Write(ctx, func(tx *db.Tx) error {
		for _, f := range []func() error{
			func() error {
				return acquiring.AddSite(tx, acquiring.Site{ID: "site_yard", Number: 7, Owner: "boss", NameEN: "The Yard", NameZH: "大院"})
			},
			func() error {
				return acquiring.AddShop(tx, acquiring.Shop{ID: "shop_tea", NameEN: "Tea House", NameZH: "茶馆", MID: shopMID, MCC: "5812", City: "Beijing", Site: "site_yard"})
			},
			func() error {
				return acquiring.AddDevice(tx, acquiring.Device{TID: shopTill, Kind: acquiring.POS, MID: shopMID, Shop: "shop_tea"})
			},
			func() error {
				return acquiring.AddDevice(tx, acquiring.Device{TID: shopDesk, Kind: acquiring.Coupon, Shop: "shop_tea"})
			},
			func() error {
				return acquiring.AddDevice(tx, acquiring.Device{TID: yardTill, Kind: acquiring.Canteen, Shop: "shop_tea"})
			},
			func() error {
				return acquiring.AddDevice(tx, acquiring.Device{TID: yardDoor, Kind: acquiring.Door, Site: "site_yard"})
			},
		} {
			if err := f(); err != nil {
				return err
			}
		}
		return nil
	}))
}

// at makes a request as a device of shops.
func (d *door) at(method, tid, address string, body []byte) (code int, answer map[string]any) {
	d.Helper()
	w := d.ask(method, "/tills/"+tid+"/"+address, d.token(device.KindTill, tid), body)
	if w.Body.Len() > 0 && w.Body.Bytes()[0] == '{' {
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
			d.Fatal(err, w.Body)
		}
	}
	return w.Code, answer
}

// installed installs a device whose transport key its installer has brought.
func (d *door) installed(tid string) (answer map[string]any, transport hsm.TransportKey) {
	d.Helper()
	var dead hsm.TransportKey
	for range 2 {
		dead = transport
		form, err := d.h.Acquiring.Transport(ctx, tid)
		d.must(err)
		transport, err = form.Key()
		d.must(err)
	}
	for body, want := range map[string]string{fmt.Sprintf(`{"proof":"%x"}`, dead.Proof(tid)): "hsm.dead_transport", `{"proof":"0"}`: "device.body", `{}`: "device.body", `{"proof":"00"}`: "hsm.dead_transport", "x": "device.body"} {
		if code, answer := d.at("POST", tid, "install", []byte(body)); code < 400 || answer["code"] != want || answer["keys"] != nil {
			d.Errorf("%s: installed with %s: %d %v", tid, body, code, answer)
		}
	}
	body := []byte(nil) // the proof may be left out
	if tid != shopDesk {
		body = fmt.Appendf(nil, `{"proof":"%x"}`, transport.Proof(tid))
	}
	code, answer := d.at("POST", tid, "install", body)
	if code != http.StatusOK {
		d.Fatalf("%s: %d %v", tid, code, answer)
	}
	return answer, transport
}

// opened unwraps the keys of an answer, by use.
func (d *door) opened(answer map[string]any, k hsm.TerminalKey, transport hsm.TransportKey) (keys map[hsm.TerminalUse][16]byte, bad error) {
	d.Helper()
	keys = map[hsm.TerminalUse][16]byte{}
	list, _ := answer["keys"].([]any)
	for _, x := range list {
		m := x.(map[string]any)
		block, err := hex.DecodeString(m["block"].(string))
		d.must(err)
		k.Use = hsm.TerminalUse(m["use"].(string))
		key, version, err := hsm.OpenInjected(k, transport, block)
		if bad = errors.Join(bad, err); err != nil {
			continue
		}
		if keys[k.Use] = key; m["version"] != float64(version) || m["kcv"] != hex.EncodeToString(block[2:5]) {
			d.Errorf("key %s: the answer says otherwise than its block: %v", k.Use, m)
		}
	}
	return keys, bad
}

// TestInstall: every kind of device is handed its keys once, wrapped under its own
// transport key, and only to its own token; no key is readable in any answer.
func TestInstall(t *testing.T) {
	d := newDoor(t, "")
	d.furnish()
	merchant := acquiring.Shop{ID: "shop_tea"}.Merchant()
	for _, tt := range []struct {
		tid       string
		has, lack []string
		uses      []hsm.TerminalUse
	}{
		{shopTill, []string{"form", "packs", "signed", "ca", "mid", "names"}, nil, []hsm.TerminalUse{hsm.TerminalMaster}},
		{shopDesk, []string{"form", "packs", "merchant"}, []string{"ca", "signed"}, []hsm.TerminalUse{hsm.CouponMerchant}},
		{yardTill, []string{"packs"}, []string{"ca", "merchant"}, []hsm.TerminalUse{hsm.TillCards, hsm.TillSales}},
		{yardDoor, []string{"packs", "site"}, []string{"ca", "merchant"}, []hsm.TerminalUse{hsm.DoorReader, hsm.DoorHost}},
	} {
		if w := d.ask("POST", "/tills/"+tt.tid+"/install", d.token(device.KindTerminal, tt.tid), nil); w.Code != http.StatusForbidden {
			t.Errorf("%s with a gate's token: %d", tt.tid, w.Code)
		}
		if code, got := d.at("POST", tt.tid, "install", nil); code != http.StatusConflict || got["code"] != "acquiring.no_transport" {
			t.Errorf("%s without a transport key: %d %v", tt.tid, code, got)
		}
		got, transport := d.installed(tt.tid)
		for _, k := range tt.has {
			if got[k] == nil {
				t.Errorf("%s lacks %s: %v", tt.tid, k, got)
			}
		}
		for _, k := range append(tt.lack, "own", "cards") {
			if got[k] != nil {
				t.Errorf("%s was given %s", tt.tid, k)
			}
		}
		name := hsm.TerminalKey{TID: tt.tid}
		if tt.tid == shopDesk {
			name.Merchant = merchant
		}
		keys, err := d.opened(got, name, transport)
		d.must(err)
		said := strings.ToLower(fmt.Sprint(got))
		for _, use := range tt.uses {
			key, ok := keys[use]
			if !ok || strings.Contains(said, hex.EncodeToString(key[:])) {
				t.Errorf("%s: key %s there %v, or readable", tt.tid, use, ok)
			}
		}
		if len(tt.uses) > 0 {
			for what, try := range map[string]func() error{
				"another transport key": func() error { _, err := d.opened(got, name, hsm.TransportKey{1}); return err },
				"another device":        func() error { n := name; n.TID = "99999999"; _, err := d.opened(got, n, transport); return err },
				"another merchant":      func() error { n := name; n.Merchant[0]++; _, err := d.opened(got, n, transport); return err },
			} {
				if err := try(); !errors.Is(err, hsm.ErrBlock) {
					t.Errorf("%s: %s opens its keys: %v", tt.tid, what, err)
				}
			}
		}
		if code, got := d.at("POST", tt.tid, "install", nil); code != http.StatusConflict || got["code"] != "acquiring.installed" || got["keys"] != nil {
			t.Errorf("%s again: %d %v", tt.tid, code, got)
		}
	}
}

// record is well formed and proves nothing.
func record(stan uint32) pboc.Clearing {
	return pboc.Clearing{Kind: pboc.ClearSale, PAN: "6288880100000001", PSN: 1, AID: []byte(pboc.AIDECash), IAD: []byte{7, 1, 1, 3, 0, 0, 0, 1, 0xA, 0}, ATC: uint16(stan),
		Fen: 1_00, Currency: 156, Country: 156, Date: [3]byte{0x15, 9, 0x16}, Time: [3]byte{0x12, 0, 0}, STAN: stan, Batch: 1, TID: shopTill, MID: shopMID, Serial: "KOALA001"}
}

func (d *door) deviceOf(tid string) (x acquiring.Device, err error) {
	err = d.h.Store.Read(ctx, func(q *db.Query) (err error) {
		x, err = acquiring.DeviceOf(q, tid)
		return err
	})
	return x, err
}

// TestTillDoor: what the door answers to batches, cases, requests and packs, and
// to what is none.
func TestTillDoor(t *testing.T) {
	d := newDoor(t, "")
	d.furnish()
	bytesOf := func(b []byte, err error) []byte { d.must(err); return b }
	sales := bytesOf(pboc.ClearingBatch{TID: shopTill, First: 1, Records: []pboc.Clearing{record(1), record(2)}}.MarshalBinary())
	others := bytesOf(pboc.ClearingBatch{TID: "30008901", First: 1}.MarshalBinary())
	none := bytesOf(pboc.ClearingBatch{TID: shopTill}.MarshalBinary())
	meals := bytesOf(desfire.SaleBatch{Till: desfire.Till{0x10, 1, 0, 7}, First: 1, Sales: []desfire.Sale{{App: desfire.CanteenAID, Till: desfire.Till{0x10, 1, 0, 7}, Seq: 1, Kind: desfire.Void}}}.Bytes())
	passes := bytesOf(desfire.PassageBatch{Door: 0x305, First: 3, Passages: []desfire.Passage{{Door: 0x305, At: desfire.Stamp{0x20, 0x15, 9, 0x16, 0x12}}}}.Bytes())
	wrongDoor := bytesOf(desfire.PassageBatch{Door: 0x306, First: 1}.Bytes())
	redemption := fmt.Sprintf(`{"first":1,"redemptions":["%x"]}`, coupon.Redemption{Op: coupon.Redeem}.Bytes())
	wire := bytesOf(record(1).MarshalBinary())
	doubt := fmt.Sprintf(`[{"record":%q,"paid":true}]`, base64.StdEncoding.EncodeToString(wire))
	begun := desfire.Sale{App: desfire.CanteenAID, Till: desfire.Till{0x10, 1, 0, 7}, Seq: 4, Kind: desfire.Purchase, Fen: 7_51, Before: 50_00, After: 42_49, At: desfire.Stamp{0x20, 0x15, 9, 0x16, 0x12}}
	meal := fmt.Appendf(nil, `[{"sale":%q}]`, base64.StdEncoding.EncodeToString(begun.Bytes()))
	foreign, err := hex.DecodeString("9F4104000000019F02060000000012005A086228000100001117")
	d.must(err)
	if code, got := d.at("POST", shopTill, "sales", sales); code != http.StatusConflict || got["code"] != "acquiring.state" {
		t.Errorf("before the installation: %d %v", code, got)
	}
	for _, tid := range []string{shopTill, shopDesk, yardTill, yardDoor} {
		d.installed(tid)
	}
	for _, tt := range []struct {
		name, method, tid, address string
		body                       []byte
		status                     int
		want                       string // within the answer
	}{
		{"a batch nobody proves", "POST", shopTill, "sales", sales, 200, `"release":2`},
		{"again", "POST", shopTill, "sales", sales, 200, `"fate":"suspense"`},
		{"nothing", "POST", shopTill, "sales", none, 200, `"release":0`},
		{"another till's", "POST", shopTill, "sales", others, 422, "device.body"},
		{"cut", "POST", shopTill, "sales", sales[:40], 422, "device.body"},
		{"a canteen's batch", "POST", shopTill, "sales", meals, 422, "device.body"},
		{"a till at the canteen's address", "POST", shopTill, "meals", meals, 422, "acquiring.kind"},
		{"the case of a foreign card", "POST", shopTill, "doubts", []byte(doubt), 200, `"state":"odd"`},
		{"no case", "POST", shopTill, "doubts", []byte(`[{"record":"!"}]`), 422, "device.body"},
		{"a canteen's case", "POST", yardTill, "doubts", meal, 200, `"state":"waiting"`},
		{"the same again", "POST", yardTill, "doubts", meal, 200, `[{"id":"mdb_`},
		{"a canteen's case from a shop's till", "POST", shopTill, "doubts", meal, 422, "acquiring.kind"},
		{"no canteen's case", "POST", yardTill, "doubts", []byte(`[{"sale":"!"}]`), 422, "device.body"},
		{"too short a sale", "POST", yardTill, "doubts", []byte(`[{"sale":"AAAA"}]`), 422, "device.body"},
		{"a foreign card", "POST", shopTill, "authorise", foreign, 200, `"arc":"15","why":"not_house"`},
		{"no request", "POST", shopTill, "authorise", []byte{1, 2}, 200, `"arc":"30"`},
		{"no exceptions", "GET", shopTill, "exceptions?have=0", nil, 204, ""},
		{"no version", "GET", shopTill, "exceptions?have=x", nil, 422, "device.body"},
		{"a meal under a wrong key", "POST", yardTill, "meals", meals, 200, `"fate":"odd","why":"mac"`},
		{"a meal cut", "POST", yardTill, "meals", meals[:30], 422, "device.body"},
		{"no menu yet", "GET", yardTill, "menu?have=0", nil, 204, ""},
		{"a passage", "POST", yardDoor, "passages", passes, 200, `"missing":[{"low":1,"high":2}]`},
		{"another door's", "POST", yardDoor, "passages", wrongDoor, 422, "acquiring.batch"},
		{"a plan", "GET", yardDoor, "plan?have=0", nil, 200, "KDP\x01"},
		{"the newest plan", "GET", yardDoor, "plan?have=1", nil, 204, ""},
		{"a coupon of elsewhere", "POST", shopDesk, "redemptions", []byte(redemption), 200, `"fate":"odd","why":"other_device"`},
		{"no coupon", "POST", shopDesk, "redemptions", []byte(`{"redemptions":["00"]}`), 422, "device.body"},
		{"no such device", "GET", "99999999", "plan", nil, 404, "acquiring.not_found"},
	} {
		w := d.ask(tt.method, "/tills/"+tt.tid+"/"+tt.address, d.token(device.KindTill, tt.tid), tt.body)
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.want) {
			t.Errorf("%s: %d %s", tt.name, w.Code, w.Body)
		}
	}
	if p, err := d.h.Verify(ctx); err != nil || !p.OK {
		t.Errorf("%v %v", p.Problems, err)
	}
}

// FuzzTillDoor: no bytes at any address of shops' devices break the house or move
// money.
func FuzzTillDoor(f *testing.F) {
	d := newDoor(f, "")
	d.furnish()
	places := []struct{ tid, address string }{{shopTill, "sales"}, {shopTill, "doubts"}, {shopTill, "authorise"}, {yardTill, "meals"}, {yardDoor, "passages"}, {shopDesk, "redemptions"}}
	for _, p := range places {
		if x, err := d.deviceOf(p.tid); err == nil && x.State == acquiring.Registered {
			d.installed(p.tid)
		}
	}
	batch, err := pboc.ClearingBatch{TID: shopTill, First: 1, Records: []pboc.Clearing{record(1)}}.MarshalBinary()
	d.must(err)
	f.Add(byte(0), batch)
	f.Add(byte(2), []byte{0x9F, 0x41, 4, 0, 0, 0, 1})
	f.Add(byte(5), []byte(`{"first":1,"redemptions":[]}`))
	f.Fuzz(func(t *testing.T, at byte, body []byte) {
		d.TB = t
		p := places[int(at)%len(places)]
		before := d.mark()
		w := d.ask("POST", "/tills/"+p.tid+"/"+p.address, d.token(device.KindTill, p.tid), body)
		if w.Code >= 500 || d.mark().float != before.float {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	})
}
