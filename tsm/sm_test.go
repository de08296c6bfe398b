package tsm_test

import (
	"testing"

	"koala/issuing"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/tlv"
	"koala/tsm"
)

// A card with two chains goes over the air like any other, its SM2 key too: the
// card takes the request for its second chain, and money and removal are proven.
func TestSMCard(t *testing.T) {
	h := allKinds(t)
	h.product = issuing.ECashCardSM
	h.settle(h.place(tsm.Issue, 0), tsm.Done)
	fci := h.band.ask(iso7816.Select([]byte(h.instance())))
	raw, _ := tlv.Find(fci.Data, emv.TagPDOL)
	list, err := emv.ParseDOL(raw)
	if err != nil || !list.Has(emv.TagSM) {
		t.Fatalf("PDOL %X %v", raw, err)
	}
	h.band.ask(iso7816.Command{CLA: 0x80, INS: 0xA8, Le: iso7816.NoLe, Data: tlv.Append(nil, emv.TagCommand, list.Append(nil, func(tag tlv.Tag) []byte {
		return map[tlv.Tag][]byte{emv.TagSM: {1}, emv.TagTTQ: {0x36, 0, 0, 0x80}}[tag]
	}))})
	r := h.band.ask(iso7816.ReadRecord(1, 7, 0))
	if cert, ok := tlv.Find(r.Data, emv.TagIssuerCert); !ok || len(cert) != 142 || cert[0] != 0x12 {
		t.Errorf("90 %X", cert)
	}
	h.settle(h.place(tsm.TopUp, 50_00), tsm.Done)
	h.settle(h.place(tsm.Delete, 0), tsm.Done)
}
