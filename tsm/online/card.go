package online

import (
	"bytes"
	"fmt"

	"koala/spec/emv"
	"koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/tlv"
)

// A Card is a bank card as it was personalised: what its contact side answers
// before any transaction of it (CARD.md 1.14).
type Card struct {
	Instance []byte
	Options  pboc.Options
	Lists    Lists
	DDOL     emv.DOL
	groups   map[uint16][]byte
	records  []emv.RecordID
}

// CardOf reads the groups a card was personalised with.
func CardOf(instance []byte, groups []globalplatform.DGI) (c Card, err error) {
	c = Card{Instance: instance, groups: make(map[uint16][]byte, len(groups))}
	for _, g := range groups {
		c.groups[g.ID] = g.Data
	}
	bad := func(err error) (Card, error) { return Card{}, fmt.Errorf("online: personalisation data: %w", err) }
	if c.Options, err = pboc.ParseOptions(c.groups[pboc.DGIContact]); err != nil {
		return bad(err)
	}
	afl, err := emv.ParseAFL(c.Options.AFL)
	if err != nil {
		return bad(err)
	}
	c.records = afl.Records()
	if c.Lists, err = ParseLists(c.groups[pboc.DGIContactFCI], c.record(listsSFI, listsRecord)); err != nil {
		return bad(err)
	}
	if c.DDOL, err = emv.ParseDOL(c.object(emv.TagDDOL)); err != nil {
		return bad(err)
	}
	return c, nil
}

func (c Card) record(sfi, n byte) []byte { return c.groups[uint16(sfi)<<8|uint16(n)] }

// object finds an object in the card's records.
func (c Card) object(tag tlv.Tag) []byte {
	for _, r := range c.records {
		if v, ok := tlv.Find(c.record(r.SFI, r.Number), tag); ok {
			return v
		}
	}
	return nil
}

// Proof lists the commands by which the card shows that it is what it was
// personalised as: the payment directory, SELECT, GET PROCESSING OPTIONS, every
// record, counter and balance, a signature over the deal's fresh number, and a
// declined cryptogram, which moves no money.
func (c Card) Proof(d Deal) []iso7816.Command {
	out := []iso7816.Command{iso7816.Select([]byte(emv.PPSE)), iso7816.Select(c.Instance), d.Options(c.Lists.PDOL)}
	for _, r := range c.records {
		out = append(out, iso7816.ReadRecord(r.Number, r.SFI, 0))
	}
	return append(out, GetData(emv.TagATC), GetData(emv.TagECBalance), d.Authenticate(c.DDOL), d.GenerateAC(pboc.AAC, c.Lists.CDOL1))
}

// GetData is GET DATA of a payment card.
func GetData(tag tlv.Tag) iso7816.Command {
	return iso7816.Command{CLA: 0x80, INS: iso7816.InsGetData, P1: byte(tag >> 8), P2: byte(tag)}
}

// Signed is the place of INTERNAL AUTHENTICATE among the commands of Proof;
// GENERATE AC comes after it.
func (c Card) Signed() int { return 3 + len(c.records) + 2 }

// Check holds the answers to Proof against the card: the directory lists it,
// every record is as it was written, the certificates lead to ca, the signature
// over challenge is by the card's key, and the e-cash is empty. The cryptogram
// is the hsm's to check.
func (c Card) Check(ca emv.CAKey, pan string, answers [][]byte, challenge []byte) error {
	if len(answers) != c.Signed()+2 {
		return fmt.Errorf("%w: %d answers", ErrAnswer, len(answers))
	}
	if !lists(answers[0], c.Instance) {
		return fmt.Errorf("%w: the payment directory does not list it", ErrAnswer)
	}
	want := tlv.Append(nil, emv.TagAnswer1, append(c.Options.AIP[:], c.Options.AFL...))
	if !bytes.Equal(answers[2], want) {
		return fmt.Errorf("%w: processing options", ErrAnswer)
	}
	var read []emv.Record
	for i, r := range c.records {
		if !bytes.Equal(answers[3+i], c.record(r.SFI, r.Number)) {
			return fmt.Errorf("%w: record %d of file %d", ErrAnswer, r.Number, r.SFI)
		}
		read = append(read, emv.Record{RecordID: r, Data: answers[3+i]})
	}
	at := c.Signed()
	if v, ok := tlv.Find(answers[at-1], emv.TagECBalance); !ok || !bytes.Equal(v, make([]byte, 6)) {
		return fmt.Errorf("%w: the e-cash is not empty", ErrAnswer)
	}
	return c.checkSignature(ca, pan, read, answers[at], challenge)
}

func (c Card) checkSignature(ca emv.CAKey, pan string, read []emv.Record, answer, challenge []byte) error {
	static, err := emv.StaticData(read, c.object(emv.TagSDATagList), c.Options.AIP[:])
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	_, icc, err := emv.RecoverChain(ca, c.object, static, emv.Check{PAN: pan})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	sdad, ok := tlv.Find(answer, emv.TagAnswer1)
	if !ok {
		return fmt.Errorf("%w: no signature", ErrAnswer)
	}
	if _, err := emv.VerifyDDA(icc.Key, sdad, challenge); err != nil {
		return fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	return nil
}

// lists tells whether a payment directory names the instance.
func lists(directory, instance []byte) (found bool) {
	_ = tlv.Walk(directory, func(_ int, tag tlv.Tag, v []byte) error {
		found = found || tag == emv.TagAID && bytes.Equal(v, instance)
		return nil
	})
	return found
}
