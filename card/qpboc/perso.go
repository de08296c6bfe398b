package qpboc

import (
	"bytes"

	"koala/card"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/iso9797"
	"koala/spec/pboc"
	"koala/spec/tlv"
)

// StoreData personalises the card. Every group may come again: an issue that was cut
// off starts over at any group. The algorithm (DGI 9200) comes before the keys.
func (a *applet) StoreData(s *card.Session, dgi uint16, data []byte) iso7816.SW {
	a.open(s)
	switch dgi {
	case pboc.DGIApplication:
		return a.storeApplication(data)
	case pboc.DGIKeys:
		return a.storeKeys(s, data)
	case pboc.DGIKeyChecks:
		return a.checkKeys(a.cells.Bytes()[atKeys:atKeys+3*keyLen], data, givenKeys)
	case pboc.DGIFCI, pboc.DGIContactFCI:
		return a.storeFCI(s, dgi, data)
	case pboc.DGIOptions, pboc.DGIContact, pboc.DGIECashOptions, pboc.DGIOptionsSM, pboc.DGIContactSM, pboc.DGIECashSM:
		return a.storeOptions(s, dgi, data)
	case pboc.DGIObjects, pboc.DGIECash:
		return a.storeObjects(data)
	case pboc.DGIPIN, pboc.DGIPINTries:
		return a.storePIN(s, dgi, data)
	case pboc.DGIFiles:
		return storeFiles(s, data)
	case pboc.DGIOpenKeys:
		return storeOpenKeys(s, data)
	case pboc.DGIOpenChecks:
		return a.checkKeys(blob(s, pboc.DGIOpenKeys), data, 0)
	case pboc.DGIScalarSM:
		return a.storeScalar(s, data)
	case pboc.DGIPointSM:
		return a.checkPoint(s, data)
	}
	switch {
	case dgi >= pboc.DGICoefficient && dgi <= pboc.DGIPrimeP:
		return storeKeyPart(s, dgi, data)
	case recordGroup(dgi):
		return a.storeRecord(s, dgi, data)
	}
	return iso7816.SWReferenceNotFound
}

// recordGroup tells whether a group is a record: SFI 1 to 30 and number 1 to 255,
// but for the two lists that stand among them.
func recordGroup(dgi uint16) bool {
	sfi := dgi >> 8
	return sfi >= 1 && sfi <= 30 && dgi&0xFF != 0 && dgi != pboc.DGIObjects && dgi != pboc.DGIECash
}

func (a *applet) storeApplication(data []byte) iso7816.SW {
	x, err := pboc.ParseApplication(data)
	if err != nil {
		return iso7816.SWData
	}
	if _, err := pboc.ACData(x.CVN, pboc.Transaction{}, [2]byte{}, 0, 0); err != nil {
		return iso7816.SWData
	}
	a.cells.Write(atIAD, []byte{x.DKI, x.CVN, byte(x.Alg), byte(x.Report)})
	a.give(givenApplication)
	return iso7816.OK
}

// storeKeys keeps the card keys; they count once their check values have come.
func (a *applet) storeKeys(s *card.Session, data []byte) iso7816.SW {
	clear, err := s.DecryptKey(data)
	if err != nil || len(clear) != 3*keyLen || !a.given(givenApplication) {
		return iso7816.SWData
	}
	a.cells.Write(atKeys, clear)
	a.cells.WriteUint16(atGiven, a.cells.Uint16(atGiven)&^givenKeys)
	return iso7816.OK
}

// checkKeys compares check values, three bytes each.
func (a *applet) checkKeys(keys, data []byte, bit uint16) iso7816.SW {
	if len(keys) == 0 || len(data)*keyLen != len(keys)*3 {
		return iso7816.SWData
	}
	for i := 0; i*keyLen < len(keys); i++ {
		if kcv := pboc.KCV(a.algorithm(), [keyLen]byte(keys[i*keyLen:])); string(kcv[:]) != string(data[3*i:3*i+3]) {
			return iso7816.SWData
		}
	}
	a.give(bit)
	return iso7816.OK
}

// storeFCI keeps an FCI whose lists the card will have to read.
func (a *applet) storeFCI(s *card.Session, dgi uint16, data []byte) iso7816.SW {
	fci, err := pboc.ParseFCI(data)
	if err != nil {
		return iso7816.SWData
	}
	pdol, _ := tlv.Find(fci, emv.TagPDOL)
	list, err := emv.ParseDOL(pdol)
	if err != nil || list.Len() > emv.MaxDOLData {
		return iso7816.SWData
	}
	bit := givenFCI
	if dgi == pboc.DGIContactFCI {
		bit = givenContactFCI
	} else if !covers(list) {
		return iso7816.SWData
	}
	if sw := storeBlob(s, dgi, fci); !sw.OK() {
		return sw
	}
	a.give(bit)
	return iso7816.OK
}

// covers tells whether a contactless PDOL has everything the cryptogram needs
// (CARD 1.1).
func covers(list emv.DOL) bool {
	for _, tag := range []tlv.Tag{emv.TagTTQ, emv.TagAmount, emv.TagAmountOther, emv.TagTerminalCountry, emv.TagTVR,
		emv.TagCurrency, emv.TagDate, emv.TagType, emv.TagUN} {
		if !list.Has(tag) {
			return false
		}
	}
	return true
}

func (a *applet) storeOptions(s *card.Session, dgi uint16, data []byte) iso7816.SW {
	o, err := pboc.ParseOptions(data)
	if err != nil {
		return iso7816.SWData
	}
	if _, err := emv.ParseAFL(o.AFL); err != nil {
		return iso7816.SWData
	}
	if sw := storeBlob(s, dgi, data); !sw.OK() {
		return sw
	}
	switch dgi {
	case pboc.DGIOptions:
		a.give(givenOptions)
	case pboc.DGIContact:
		a.give(givenContact)
	case pboc.DGIECashOptions:
		a.give(givenECash)
	}
	return iso7816.OK
}

// storeObjects takes a list of data objects. All of it is checked before any of it
// is written.
func (a *applet) storeObjects(data []byte) iso7816.SW {
	for in := data; len(in) > 0; {
		tag, v, rest, err := tlv.Next(in)
		if err != nil || !storable(tag, v) {
			return iso7816.SWData
		}
		in = rest
	}
	for in := data; len(in) > 0; {
		tag, v, rest, _ := tlv.Next(in)
		a.setObject(tag, v)
		in = rest
	}
	return iso7816.OK
}

func storable(tag tlv.Tag, v []byte) bool {
	o, ok := objects[tag]
	switch {
	case !ok, o.list && (len(v) == 0 || len(v) > o.n), !o.list && len(v) != o.n:
		return false
	case o.amount:
		_, err := pboc.ParseAmount(v)
		return err == nil
	case o.list:
		list, err := emv.ParseDOL(v)
		most := transactionLog.size
		if tag == emv.TagLoadLogFormat {
			most = loadLog.size - 14
		}
		return err == nil && list.Len() <= most
	}
	return true
}

func (a *applet) storePIN(s *card.Session, dgi uint16, data []byte) iso7816.SW {
	if dgi == pboc.DGIPINTries {
		if len(data) != 2 || data[0] > data[1] || data[1] == 0 || data[1] > 15 {
			return iso7816.SWData
		}
		a.cells.Write(atTries, data)
		return iso7816.OK
	}
	clear, err := s.DecryptKey(data)
	if err != nil {
		return iso7816.SWData
	}
	block, err := iso9797.Unpad2(clear)
	if err != nil || len(block) != pinBlockLen {
		return iso7816.SWData
	}
	if _, err := emv.ParsePINBlock([8]byte(block)); err != nil {
		return iso7816.SWData
	}
	a.cells.Write(atPIN, block)
	a.give(givenPIN)
	return iso7816.OK
}

// storeKeyPart keeps one part of the private key with its padding.
func storeKeyPart(s *card.Session, dgi uint16, data []byte) iso7816.SW {
	clear, err := s.DecryptKey(data)
	if err != nil {
		return iso7816.SWData
	}
	part, err := iso9797.Unpad2(clear)
	if err != nil || len(part) == 0 || len(part) > emv.MaxKeyBytes/2 {
		return iso7816.SWData
	}
	return storeBlob(s, dgi, clear)
}

// storeScalar keeps the SM2 private key with its padding; it counts once its
// public key has come.
func (a *applet) storeScalar(s *card.Session, data []byte) iso7816.SW {
	clear, err := s.DecryptKey(data)
	if err != nil {
		return iso7816.SWData
	}
	if scalar, err := iso9797.Unpad2(clear); err != nil || len(scalar) != scalarLen || a.keys.key(scalar) == nil {
		return iso7816.SWData
	}
	a.cells.WriteUint16(atGiven, a.cells.Uint16(atGiven)&^givenSM)
	return storeBlob(s, pboc.DGIScalarSM, clear)
}

// checkPoint compares the public key with that of the private one.
func (a *applet) checkPoint(s *card.Session, data []byte) iso7816.SW {
	clear, err := s.DecryptKey(data)
	if err != nil {
		return iso7816.SWData
	}
	point, err := iso9797.Unpad2(clear)
	scalar, err2 := iso9797.Unpad2(blob(s, pboc.DGIScalarSM))
	if err != nil || err2 != nil {
		return iso7816.SWData
	}
	key := a.keys.key(scalar)
	if key == nil || !bytes.Equal(key.Public().Modulus(), point) {
		return iso7816.SWData
	}
	a.give(givenSM)
	return iso7816.OK
}

// storeFiles makes the industry files. They cannot change afterwards, since what is
// in them would be lost; the same list again is an issue that starts over.
func storeFiles(s *card.Session, data []byte) iso7816.SW {
	files, err := pboc.ParseFiles(data)
	if err != nil {
		return iso7816.SWData
	}
	if old := blob(s, pboc.DGIFiles); old != nil {
		if string(old) != string(data) {
			return iso7816.SWConditions
		}
		return iso7816.OK
	}
	for _, f := range files {
		if _, err := s.Allocate(industryTag(f.SFI), industry{File: f}.regionSize()); err != nil {
			return iso7816.SWNoSpace
		}
	}
	return storeBlob(s, pboc.DGIFiles, data)
}

func storeOpenKeys(s *card.Session, data []byte) iso7816.SW {
	files, err := pboc.ParseFiles(blob(s, pboc.DGIFiles))
	if err != nil || len(files) == 0 {
		return iso7816.SWConditions
	}
	clear, err := s.DecryptKey(data)
	if err != nil || len(clear) != len(files)*keyLen {
		return iso7816.SWData
	}
	return storeBlob(s, pboc.DGIOpenKeys, clear)
}

// storeRecord keeps a record: in an industry file with its key in front, elsewhere
// a template 70.
func (a *applet) storeRecord(s *card.Session, dgi uint16, data []byte) iso7816.SW {
	sfi, n := byte(dgi>>8), int(byte(dgi))
	if sfi < pboc.FirstFile || sfi > pboc.LastFile {
		if !isRecord(data) || len(data) > backupLen {
			return iso7816.SWData
		}
		return storeBlob(s, dgi, data)
	}
	f, ok := industryFile(s, sfi)
	if !ok || f.Kind != pboc.Variable {
		return iso7816.SWConditions
	}
	rec := data[min(keyLen, len(data)):]
	if n > f.Records() || len(rec) < 2 || len(rec) > int(f.MaxRecord) {
		return iso7816.SWData
	}
	key, err := s.DecryptKey(data[:keyLen])
	if err != nil || len(key) != keyLen {
		return iso7816.SWData
	}
	f.cells.Write((n-1)*f.slotSize(), key)
	f.write(n, rec)
	return iso7816.OK
}
