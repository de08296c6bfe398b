package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"koala/app"
	"koala/calendar"
	"koala/customer"
	"koala/hsm"
	"koala/internal/db"
	"koala/issuing"
	"koala/ledger"
	"koala/merchant"
	"koala/money"
	"koala/spec/emv"
	"koala/spec/iso8583"
	"koala/spec/pboc"
	"koala/spec/poskey"
	"koala/spec/tlv"
	"koala/wallet"
)

// A paperCard is a card of the house's bank that exists on paper only: what its
// chip would say is made here, with roots that this process brought in.
type paperCard struct {
	number, expiry string
	dki            byte
	ac, mac        *pboc.Key
	atc            uint16
}

// The roots of paper cards, and their PIN.
var (
	paperAC  = [16]byte{0xF0, 0xC3, 0x48, 0x81, 0x24, 0xCE, 0xE0, 0xA9, 0x1A, 0x0B, 0x03, 0x4A, 0xA9, 0x7D, 0x6E, 0xAC}
	paperMAC = [16]byte{0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE, 0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF}
	paperENC = [16]byte{0x52, 0x0E, 0x1B, 0x7F, 0xC4, 0x29, 0x3D, 0x68, 0x97, 0xA1, 0xB6, 0xC3, 0xD5, 0xE2, 0x04, 0x13}
)

const paperPIN = "246813"

// paperRoots brings the roots of paper cards into a house for a bench or a test.
func paperRoots(ctx context.Context, h *app.House) error {
	for label, root := range map[string][16]byte{hsm.LabelCardAC: paperAC, hsm.LabelCardMAC: paperMAC, hsm.LabelCardENC: paperENC} {
		if _, err := h.Keys.Import(ctx, label, hsm.CardRoot, root[:]); err != nil {
			return err
		}
	}
	return nil
}

// newPaperCard opens a card for a new customer with fen in the wallet; name is
// not used twice.
func newPaperCard(ctx context.Context, h *app.House, product, name string, fen int64) (*paperCard, error) {
	who := customer.ID("cust_" + name)
	err := h.Store.Write(ctx, func(tx *db.Tx) error {
		if err := wallet.Open(tx, who); err != nil {
			return err
		}
		_, err := wallet.Fund(tx, "fund:"+name, who, money.Fen(fen))
		return err
	})
	if err != nil {
		return nil, err
	}
	keys, err := openPaper(ctx, h, issuing.Application{Ref: "card:" + name, Customer: who, Band: name, Product: product}, paperPIN)
	if err != nil {
		return nil, err
	}
	p := &paperCard{number: keys.number, expiry: keys.expiry, dki: keys.DKI}
	for key, root := range map[**pboc.Key][16]byte{&p.ac: paperAC, &p.mac: paperMAC} {
		own, err := emv.CardKey(root[:], keys.PAN, keys.PSN, emv.OptionA)
		if err != nil {
			return nil, err
		}
		*key = pboc.NewKey(pboc.TripleDES, [16]byte(own))
	}
	return p, nil
}

func (c *paperCard) track() string { return c.number + "D" + c.expiry + "220" }

// field55 is what the chip says when it asks for an authorisation.
func (c *paperCard) field55(fen int64, day time.Time) ([]byte, error) {
	c.atc++
	iad := pboc.IAD{DKI: c.dki, CVN: pboc.CVN01, CVR: pboc.NewCVR(pboc.ARQC, pboc.NotRequested), Alg: pboc.TripleDES, Report: pboc.ReportBalance}
	iad.Sign(c.mac.Session(c.atc), c.atc)
	y, m, d := day.In(calendar.Beijing).Date()
	t := pboc.Transaction{Amount: pboc.Amount(uint64(fen)), Country: [2]byte{1, 0x56}, Currency: [2]byte{1, 0x56},
		Date: [3]byte{bcd(y % 100), bcd(int(m)), bcd(d)}, Unpredictable: [4]byte{1, 2, 3, byte(c.atc)}}
	aip := [2]byte{0x7C}
	data, err := pboc.ACData(iad.CVN, t, aip, c.atc, iad.CVR)
	if err != nil {
		return nil, err
	}
	ac := c.ac.Session(c.atc).MAC(nil, data)
	var out []byte
	for _, o := range []struct {
		tag tlv.Tag
		v   []byte
	}{{emv.TagAC, ac[:]}, {emv.TagCID, []byte{pboc.ARQC.CID()}}, {emv.TagIAD, iad.Bytes()}, {emv.TagUN, t.Unpredictable[:]}, {emv.TagATC, binary.BigEndian.AppendUint16(nil, c.atc)},
		{emv.TagTVR, t.TVR[:]}, {emv.TagDate, t.Date[:]}, {emv.TagType, []byte{t.Type}}, {emv.TagAmount, t.Amount[:]}, {emv.TagCurrency, t.Currency[:]}, {emv.TagAIP, aip[:]},
		{emv.TagTerminalCountry, t.Country[:]}, {emv.TagAmountOther, t.Other[:]}, {emv.TagCapabilities, []byte{0xE0, 0xE8, 0xC8}}, {emv.TagCVMResults, []byte{0, 0, 0}},
		{emv.TagDeviceSerial, []byte("SERIAL01")}, {emv.TagDFName, []byte(pboc.AIDDebit)}} {
		out = tlv.Append(out, o.tag, o.v)
	}
	return out, nil
}

func bcd(n int) byte { return byte(n/10<<4 | n%10) }

// A wireTerminal speaks docs/terminal-protocol.md over TCP, as cheaply as can be:
// its requests are made before they are sent.
type wireTerminal struct {
	tid, mid string
	tmk      [16]byte
	pik      *pboc.Key
	mac      *iso8583.Key
	batch    int
	stan     int
	conn     net.Conn
	in       *bufio.Reader
	buf      []byte
	answer   iso8583.Message
}

// newWireTerminal installs a registered terminal.
func newWireTerminal(ctx context.Context, h *app.House, tid, mid string) (*wireTerminal, error) {
	form, err := h.OpenTerminal(ctx, tid, "", "")
	if err != nil {
		return nil, err
	}
	key, err := form.Key()
	if err != nil {
		return nil, err
	}
	in, err := h.Switch.InstallOnce(ctx, tid, nil, func(tx *db.Tx) error { return merchant.Live(tx, tid, merchant.Injected, "", "") })
	if err != nil {
		return nil, err
	}
	w := &wireTerminal{tid: tid, mid: mid}
	w.tmk, _, err = hsm.OpenInjected(hsm.TerminalKey{Use: hsm.TerminalMaster, TID: tid}, key, in.Block)
	return w, err
}

// dial opens the line, and signs on.
func (w *wireTerminal) dial(address string) (err error) {
	if w.conn, err = net.Dial("tcp", address); err != nil {
		return err
	}
	w.in = bufio.NewReader(w.conn)
	w.stan++
	m := w.message("0800", map[int]string{11: fmt.Sprintf("%06d", w.stan), 60: "00000001003", 63: "01 "})
	wire, err := m.AppendTo(make([]byte, 2))
	if err != nil {
		return err
	}
	if err := w.ask(framed(wire)); err != nil {
		return err
	}
	if code := w.answer.Text(39); code != "00" {
		return fmt.Errorf("terminal %s: sign-on is answered %s", w.tid, code)
	}
	keys, err := poskey.ParseField(w.answer.Get(62))
	if err != nil {
		return err
	}
	pik, err := keys[0].Open(w.tmk)
	if err != nil {
		return err
	}
	mak, err := keys[1].Open(w.tmk)
	if err != nil {
		return err
	}
	w.pik = pboc.NewKey(pboc.TripleDES, pik)
	if w.mac, err = iso8583.NewKey(mak[:]); err != nil {
		return err
	}
	w.batch, err = strconv.Atoi(w.answer.Text(60)[2:8])
	return err
}

// message is a request without its MAC.
func (w *wireTerminal) message(mti string, f map[int]string) *iso8583.Message {
	m := new(iso8583.Message)
	m.Reset(iso8583.UnionPayPOS(), mti)
	m.SetHead([]byte{0x60, 0, 3, 0, 0, 0x61, 0x31, 0, 0x31, 0x13, 0x12})
	m.SetText(41, w.tid)
	m.SetText(42, w.mid)
	for n, v := range f {
		m.SetText(n, v)
	}
	return m
}

// sale is a framed request for a payment: by chip, or by stripe with PIN.
func (w *wireTerminal) sale(c *paperCard, fen int64, chip bool, day time.Time) ([]byte, error) {
	w.stan++
	f := map[int]string{2: c.number, 3: "000000", 4: fmt.Sprintf("%012d", fen), 11: fmt.Sprintf("%06d", w.stan), 25: "00", 49: "156"}
	if chip {
		v, err := c.field55(fen, day)
		if err != nil {
			return nil, err
		}
		f[22], f[23], f[55], f[60] = "051", "001", string(v), fmt.Sprintf("22%06d00060", w.batch)
	} else {
		b, err := poskey.PINBlock(poskey.WithPAN, paperPIN, c.number)
		if err != nil {
			return nil, err
		}
		f[22], f[35], f[60] = "021", c.track(), fmt.Sprintf("22%06d00020", w.batch)
		f[26], f[52], f[53] = "12", string(w.pik.Encrypt(b[:])), "2600000000000000"
	}
	wire, err := w.message("0200", f).Seal(make([]byte, 2), w.mac)
	return framed(wire), err
}

// framed puts the length before a message that left two bytes free.
func framed(wire []byte) []byte {
	if len(wire) >= 2 {
		binary.BigEndian.PutUint16(wire, uint16(len(wire)-2))
	}
	return wire
}

// ask sends a framed request and reads its answer.
func (w *wireTerminal) ask(frame []byte) error {
	if _, err := w.conn.Write(frame); err != nil {
		return err
	}
	var head [2]byte
	if _, err := io.ReadFull(w.in, head[:]); err != nil {
		return err
	}
	n := int(binary.BigEndian.Uint16(head[:]))
	if cap(w.buf) < n {
		w.buf = make([]byte, n)
	}
	w.buf = w.buf[:n]
	if _, err := io.ReadFull(w.in, w.buf); err != nil {
		return err
	}
	return w.answer.Unpack(iso8583.UnionPayPOS(), w.buf)
}

// approved says that the last answer approves, its MAC being right.
func (w *wireTerminal) approved() error {
	if err := w.answer.Verify(w.mac); err != nil {
		return err
	}
	if code := w.answer.Text(39); code != "00" {
		return fmt.Errorf("terminal %s, trace %s: answered %s", w.tid, w.answer.Text(11), code)
	}
	return nil
}

// walletOf is the account of the customer who has the paper card of a name.
func walletOf(name string) ledger.AccountID { return wallet.Account(customer.ID("cust_" + name)) }
