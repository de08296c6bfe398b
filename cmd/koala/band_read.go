package main

import (
	"encoding/binary"
	"fmt"

	"koala/card"
	"koala/card/catalog"
	"koala/internal/clock"
	"koala/spec/desfire"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/purse"
	"koala/spec/tlv"
)

// cardReaders read the selected card without keys, by module.
var cardReaders = map[card.AID]func(iso7816.Transmit, *cardView) error{
	catalog.PurseModule:   readPurse,
	catalog.PaymentModule: readBankCard,
	catalog.DESFireModule: readDESFire,
	catalog.CouponModule:  readCoupons,
}

// askCard sends a command; a refusal is no data.
func askCard(t iso7816.Transmit, c iso7816.Command) ([]byte, error) {
	r, err := t(c)
	if err != nil || !r.SW.OK() {
		return nil, err
	}
	return r.Data, nil
}

func readPurse(t iso7816.Transmit, v *cardView) error {
	v.Kind, v.Title = "t-union", "transit purse"
	file, err := askCard(t, iso7816.ReadBinarySFI(purse.SFIPublic, 0, purse.File15Len))
	if err != nil {
		return err
	}
	if f, err := purse.ParseFile15(file); err == nil {
		v.Number, v.From, v.To = f.Number.Printed(), bcdDay(f.From), bcdDay(f.To)
	}
	raw, err := askCard(t, purse.GetBalance{Purse: purse.EP}.Command())
	if err != nil {
		return err
	}
	if fen, err := purse.ParseBalance(raw); err == nil {
		have := int64(fen)
		v.Fen = &have
	}
	raw, err = askCard(t, purse.InitPurchase{Purse: purse.EP, Key: 1, Terminal: purse.Terminal{1}}.Command())
	if err != nil {
		return err
	}
	if a, err := purse.ParseInitPurchaseAnswer(raw); err == nil {
		n := int(a.Seq)
		v.Counter = &n
	}
	return nil
}

func bcdDay(d [4]byte) string {
	return fmt.Sprintf("%02X%02X-%02X-%02X", d[0], d[1], d[2], d[3])
}

// readBankCard reads what GET DATA gives without a transaction.
func readBankCard(t iso7816.Transmit, v *cardView) error {
	v.Kind, v.Title = "qpboc", "bank card"
	object := func(tag tlv.Tag) ([]byte, error) {
		c := iso7816.Command{CLA: 0x80, INS: iso7816.InsGetData, P1: byte(tag >> 8), P2: byte(tag)}
		raw, err := askCard(t, c)
		if err != nil {
			return nil, err
		}
		value, _ := tlv.Find(raw, tag)
		return value, nil
	}
	balance, err := object(emv.TagECBalance)
	if err != nil {
		return err
	}
	if fen, err := pboc.ParseAmount(balance); err == nil {
		have := int64(fen)
		v.Fen = &have
	}
	atc, err := object(emv.TagATC)
	if err != nil {
		return err
	}
	if len(atc) == 2 {
		n := int(binary.BigEndian.Uint16(atc))
		v.Counter = &n
	}
	return nil
}

// readDESFire lists the applications; their contents need keys.
func readDESFire(t iso7816.Transmit, v *cardView) error {
	v.Kind, v.Title = "desfire", "DESFire card"
	list, err := desfire.NewHost(t, clock.Entropy()).Applications()
	if _, refused := desfire.Refused(err); refused {
		return nil
	}
	for _, a := range list {
		switch a {
		case desfire.CanteenAID:
			v.Notes = append(v.Notes, "canteen "+a.String())
		case desfire.DoorAID:
			v.Notes = append(v.Notes, "door "+a.String())
		default:
			v.Notes = append(v.Notes, "application "+a.String())
		}
	}
	return err
}
