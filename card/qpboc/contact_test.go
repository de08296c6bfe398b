package qpboc

import (
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/tlv"
)

// generate is GENERATE AC with the terminal's values for the CDOL.
func (b *bench) generate(cdol tlv.Tag, p1 byte) iso7816.Response {
	b.t.Helper()
	return b.send(b.generateCommand(cdol, p1))
}

func (b *bench) generateCommand(cdol tlv.Tag, p1 byte) iso7816.Command {
	list, _ := tlv.Find(b.send(iso7816.ReadRecord(1, 5, 0)).Data, cdol)
	data := b.list(list)
	if cdol == emv.TagCDOL1 {
		b.cdol1 = data
	}
	return iso7816.Command{CLA: 0x80, INS: pboc.InsGenerateAC, P1: p1, Data: data}
}
