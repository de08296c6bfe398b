package emv_test

import (
	"bytes"
	"errors"
	"testing"

	"koala/spec/emv"
)

func TestBitsAreWhereTheStandardsCountThem(t *testing.T) {
	var aip emv.AIP
	for _, b := range []emv.AIPBit{emv.AIPSDA, emv.AIPDDA, emv.AIPCVM, emv.AIPTerminalRisk, emv.AIPIssuerAuth, emv.AIPCDA} {
		if aip.Has(b) {
			t.Errorf("%04X set before", b)
		}
		aip.Set(b)
	}
	wantHex(t, "AIP seen on cards", aip[:], "7D00")
	var ttq emv.TTQ
	for _, b := range []emv.TTQBit{emv.TTQQuick, emv.TTQOnlinePIN, emv.TTQSignature, emv.TTQFastDDA01} {
		ttq.Set(b)
	}
	wantHex(t, "common TTQ", ttq[:], "26000080")
	if logged := (emv.TTQ{0x36, 0x80}); !logged.Has(emv.TTQOnline) || logged.Has(emv.TTQCVM) || logged.Has(emv.TTQFull) || !logged.Has(emv.TTQContact) {
		t.Error("logged TTQ 36800000")
	}
	var tvr emv.TVR
	tvr.Set(emv.TVRNewCard)
	tvr.Set(emv.TVRFloorLimit)
	wantHex(t, "TVR", tvr[:], "0008008000")
	if !tvr.Meets(emv.TVR{0, 0xFF}) || tvr.Meets(emv.TVR{0xFF, 0, 0xFF}) || !tvr.Has(emv.TVRNewCard) {
		t.Error("action codes")
	}
	var tsi emv.TSI
	for _, b := range []emv.TSIBit{emv.TSIODA, emv.TSICVM, emv.TSICardRisk, emv.TSIIssuerAuth, emv.TSITerminalRisk} {
		tsi.Set(b)
	}
	wantHex(t, "TSI of a logged transaction", tsi[:], "F800")
	if tsi.Has(emv.TSIScript) {
		t.Error("script")
	}
	var ctq emv.CTQ
	ctq.Set(emv.CTQSignature)
	ctq.Set(emv.CTQOnDevice)
	if wantHex(t, "CTQ", ctq[:], "4080"); !ctq.Has(emv.CTQOnDevice) {
		t.Error("CTQ")
	}
	var c emv.Capabilities
	c.Set(emv.CapChip)
	c.Set(emv.CapOnlinePIN)
	c.Set(emv.CapCDA)
	if wantHex(t, "capabilities", c[:], "204008"); !c.Has(emv.CapChip) || c.Has(emv.CapSDA) {
		t.Error("capabilities")
	}
	var u emv.AUC
	u.Set(emv.AUCATM)
	u.Set(emv.AUCForeignCashback)
	if wantHex(t, "usage", u[:], "0240"); !u.Has(emv.AUCATM) {
		t.Error("usage")
	}
	if cid := emv.CID(0x88); cid.Kind() != emv.ARQC {
		t.Error("CID")
	}
}

func TestVerificationLists(t *testing.T) {
	l, err := emv.ParseCVMList(unhex(t, "000000640000C350 5E03 4203 1F00"))
	if err != nil {
		t.Fatal(err)
	}
	if l.X != 100 || l.Y != 50000 || len(l.Rules) != 3 {
		t.Errorf("%+v", l)
	}
	r := l.Rules[0]
	if r.Method() != emv.CVMSignature || !r.Next() || r.Condition != emv.CVMIfSupported || l.Rules[2].Next() {
		t.Errorf("%+v", l.Rules)
	}
	results := emv.NewCVMResults(r, emv.CVMResultOK)
	if wantHex(t, "results", results[:], "5E0302"); results.Rule() != r || results.Result() != emv.CVMResultOK {
		t.Error("results")
	}
	for _, bad := range []int{0, 7, 9, 254} {
		if _, err := emv.ParseCVMList(make([]byte, bad)); !errors.Is(err, emv.ErrCVMList) {
			t.Errorf("%d bytes: %v", bad, err)
		}
	}
	if _, err := emv.ParseCVMList(make([]byte, 252)); err != nil {
		t.Errorf("the longest: %v", err)
	}
}

func FuzzParseCVMList(f *testing.F) {
	f.Add(unhex(f, "00000000000000005E0342031F00"))
	f.Fuzz(func(t *testing.T, in []byte) {
		l, err := emv.ParseCVMList(in)
		if err == nil && !bytes.Equal(l.Bytes(), in) {
			t.Errorf("%X writes %X", in, l.Bytes())
		}
	})
}
