package kernel

import (
	"bytes"
	"errors"

	"koala/spec/emv"
	"koala/spec/tlv"
)

// A dialect is what a scheme's contactless cards do otherwise than the others
// of the family (CARD.md 1.15).
type dialect struct {
	iad      byte // first byte of 9F10
	cardAuth int  // bytes of 9F69
}

var dialects = map[Scheme]dialect{
	QuickPass: {iad: 0x07, cardAuth: 8},
	QVSDC:     {iad: 0x06, cardAuth: 7},
}

// decided is the kind of cryptogram: what 9F27 says where the card sends it,
// and bits 6 and 5 of the first byte of the CVR in 9F10, which must agree.
func (d dialect) decided(iad, cid []byte) (kind byte, ok bool) {
	if len(iad) < 7 || iad[0] != d.iad || iad[3] != 0x03 {
		return 0, false
	}
	kind = iad[4] >> 4 & 3 << 6
	if cid != nil && (len(cid) != 1 || cid[0]&0xC0 != kind) {
		return 0, false
	}
	return kind, kind != 0xC0
}

// tap runs the contactless kernel with the application selected: the card
// decides in its answer to GET PROCESSING OPTIONS.
func (r *run) tap() error {
	d, ok := dialects[r.app.Scheme]
	if !ok {
		return end(SelectNext, NoApplication)
	}
	if r.ride != nil {
		if err := r.board(); err != nil {
			return err
		}
	}
	kind, err := r.options(d)
	if err != nil {
		return err
	}
	if r.out.CID = kind; r.ride != nil && kind != emv.TC {
		return end(Declined, CardDecided)
	}
	switch kind {
	case emv.TC:
		return r.tapOffline(d)
	case emv.ARQC:
		return r.tapOnline()
	}
	if err := r.recognise(); err != nil {
		return err
	}
	return end(Declined, CardDecided)
}

// options sends GET PROCESSING OPTIONS and holds the answer against what a
// card of the family must give (CARD.md 1.3, 1.13).
func (r *run) options(d dialect) (kind byte, err error) {
	dol, err := emv.ParseDOL(r.icc[emv.TagPDOL])
	if err != nil || !dol.Has(emv.TagTTQ) || !dol.Has(emv.TagUN) {
		return 0, end(SelectNext, CardError)
	}
	c, err := r.optionsCommand()
	if err != nil {
		return 0, err
	}
	data, err := r.ask(c, SelectNext)
	if err != nil {
		return 0, err
	}
	tag, val, rest, err := tlv.Next(data)
	if err != nil || tag != emv.TagAnswer2 || len(rest) != 0 {
		return 0, errCard
	}
	if err := r.putAll(val); err != nil {
		return 0, err
	}
	if len(r.icc[emv.TagAIP]) != 2 || len(r.icc[emv.TagATC]) != 2 || len(r.icc[emv.TagAC]) != 8 || r.has(emv.TagCTQ) && len(r.icc[emv.TagCTQ]) != 2 {
		return 0, errCard
	}
	kind, ok := d.decided(r.icc[emv.TagIAD], r.icc[emv.TagCID])
	if !ok || len(r.icc[emv.TagIAD]) > 32 {
		return 0, errCard
	}
	r.aip = emv.AIP(r.icc[emv.TagAIP])
	return kind, nil
}

// tapOnline ends with a request to the host. Records are read where the card
// names any: some hold the number there.
func (r *run) tapOnline() error {
	if r.has(emv.TagAFL) {
		ids, err := r.located()
		if err != nil {
			return err
		}
		if err := r.readRecords(ids); err != nil {
			return err
		}
	}
	if err := r.recognise(); err != nil {
		return err
	}
	if r.out.PAN == "" {
		return errCard
	}
	return r.goOnline()
}

// goOnline ends with a request to the host if there can be one.
func (r *run) goOnline() error {
	switch {
	case r.listed():
		return end(Declined, OnExceptions)
	case r.ttq.Has(emv.TTQOfflineOnly):
		return end(Declined, NoHost)
	}
	if err := r.tapCVM(true); err != nil {
		return err
	}
	if r.out.CVM == OnlinePIN {
		block, ok := r.enterOnlinePIN()
		if !ok {
			return end(Declined, NoCVM)
		}
		r.pin = block
	}
	r.out.pin = r.pin
	return end(OnlineRequest, NoReason)
}

func (r *run) enterOnlinePIN() ([]byte, bool) {
	if r.seam.OnlinePIN == nil {
		return nil, false
	}
	return r.seam.OnlinePIN(r.out.PAN)
}

func (r *run) listed() bool {
	return !r.app.SkipExceptionCheck && r.seam.Listed != nil && r.seam.Listed(r.out.PAN, r.out.PSN)
}

// tapOffline takes a card that approved. The card commits when the last
// record is read, so everything that can be checked is checked before, and
// the device keeps the approval before; what can only be checked after it and
// fails is money taken for nothing, and comes out as PaidNotAccepted.
func (r *run) tapOffline(d dialect) error {
	if r.ttq.Has(emv.TTQOnline) { // it was asked for an online cryptogram
		return end(Declined, CardDecided)
	}
	ids, err := r.located()
	if err != nil {
		return err
	}
	if r.ride != nil {
		if err := r.update(); err != nil {
			return err
		}
	}
	others, last := ids[:len(ids)-1], ids[len(ids)-1]
	if err := r.readRecords(others); err != nil {
		return err
	}
	if err := r.recognise(); err != nil {
		return err
	}
	if err := r.before(d, !last.ODA); err != nil {
		return err
	}
	if r.seam.Commit != nil {
		if r.out.PAN == "" { // a name only the last record tells cannot be kept before it is read
			return end(Declined, CardError)
		}
		r.remember()
		if err := r.seam.Commit(&r.out); err != nil {
			return err
		}
	}
	r.out.Committed = true
	if err := r.lastRecord(last); err != nil {
		return err
	}
	if err := r.after(d); err != nil {
		return err
	}
	return end(Approved, NoReason)
}

// lastRecord reads the record that commits. When the answer is lost but the
// card is still there, reading again gives the same answer and changes nothing
// (CARD.md 1.3). A card that refuses has not committed.
func (r *run) lastRecord(id emv.RecordID) error {
	err := r.readRecord(id)
	if s, ok := err.(*stop); ok && s.Reason == Torn {
		err = r.readRecord(id)
		if s, ok := err.(*stop); ok && s.Reason != CardError { // it left, and came back as another
			return end(TryAgain, Torn)
		}
	}
	if s, ok := err.(*stop); ok && s.Reason == CardRefused {
		r.out.Committed = false
		return &stop{Result: Declined, Reason: CardRefused, SW: s.SW}
	}
	if err != nil {
		return end(Declined, PaidNotAccepted)
	}
	return nil
}

// before makes the checks that need no last record. all says that the last
// record adds nothing to the signed data.
func (r *run) before(d dialect, all bool) error {
	if r.out.PAN != "" && r.listed() {
		return end(Declined, OnExceptions)
	}
	if err := r.tapCVM(false); err != nil {
		return err
	}
	if r.has(emv.TagExpiry) && r.expired() {
		if r.ctq().Has(emv.CTQOnlineIfDate) {
			return r.goOnline()
		}
		return end(Declined, Expired)
	}
	if r.has(emv.TagIssuerCert) && r.has(emv.TagCAIndex) && r.out.PAN != "" {
		unfinished := !r.has(emv.TagIssuerRemainder) || r.lacks(emv.TagIssuerExponent) // the hash covers both
		if err := r.recoverIssuer(); err != nil && !(unfinished && errors.Is(err, emv.ErrHash)) {
			return r.notGenuine()
		}
	}
	if !all || r.fastMissing() {
		return nil
	}
	if err := r.recoverCard(); err != nil {
		if (errors.Is(err, emv.ErrHash) || errors.Is(err, emv.ErrSignature)) && !r.has(emv.TagSDATagList) {
			return nil // the last record may still name what else is signed
		}
		return r.notGenuine()
	}
	switch err := r.verifyFast(d); {
	case err == nil:
		r.proved = true
	case !r.ttq.Has(emv.TTQFastDDA01) || r.has(emv.TagCardAuth) || r.olderFast(): // no last record will mend it
		return r.notGenuine()
	}
	return nil
}

// after makes the checks that were not possible before. The card has paid.
func (r *run) after(d dialect) error {
	unpaid := end(Declined, PaidNotAccepted)
	r.expect = r.out.PAN // a card that names itself otherwise now stays the one it was
	if err := r.identify(); err != nil || r.out.PAN == "" {
		return unpaid
	}
	if r.listed() || !r.has(emv.TagExpiry) || r.expired() {
		return unpaid
	}
	if r.proved && !r.has(emv.TagCardAuth) {
		return nil
	}
	if r.fastMissing() || r.recoverCard() != nil || r.verifyFast(d) != nil {
		return unpaid
	}
	r.proved = true
	return nil
}

// notGenuine is where a card goes that fails offline data authentication
// before it has committed: to the host or the contacts, if it says so itself.
func (r *run) notGenuine() error {
	switch {
	case r.ctq().Has(emv.CTQOnlineIfODA) && !r.ttq.Has(emv.TTQOfflineOnly) && r.out.PAN != "":
		return r.goOnline()
	case r.ctq().Has(emv.CTQContactIfODA) && r.k.contact():
		return end(OtherInterface, NotGenuine)
	}
	return end(Declined, NotGenuine)
}

func (r *run) ctq() emv.CTQ {
	if v := r.icc[emv.TagCTQ]; len(v) == 2 {
		return emv.CTQ(v)
	}
	return emv.CTQ{}
}

func (r *run) expired() bool {
	v := r.icc[emv.TagExpiry]
	today := r.today()
	return len(v) != 3 || later(today[:], v)
}

// tapCVM finds how the cardholder is verified (CARD.md 1.4; EMV Contactless
// C-3, 5.7): the card says so in 9F6C, the terminal in 9F66 whether it must be.
func (r *run) tapCVM(online bool) error {
	ctq := r.ctq()
	switch {
	case ctq.Has(emv.CTQOnDevice):
		r.out.CVM = ConsumerDevice
	case ctq.Has(emv.CTQOnlinePIN) && r.ttq.Has(emv.TTQOnlinePIN):
		if r.out.CVM = OnlinePIN; !online {
			return r.goOnline()
		}
	case ctq.Has(emv.CTQSignature) && r.ttq.Has(emv.TTQSignature):
		r.out.CVM = Signature
	case !r.ttq.Has(emv.TTQCVM):
		r.out.CVM = NoCVMNeeded
	case !r.has(emv.TagCTQ) && r.ttq.Has(emv.TTQSignature):
		r.out.CVM = Signature
	default:
		return end(Declined, NoCVM)
	}
	r.cvm = r.tapCVMResults()
	r.term[emv.TagCVMResults] = r.cvm[:]
	return nil
}

// tapCVMResults codes the method for field 55, as the contact interface would.
func (r *run) tapCVMResults() emv.CVMResults {
	switch r.out.CVM {
	case Signature:
		return emv.CVMResults{byte(emv.CVMSignature), byte(emv.CVMAlways), emv.CVMResultUnknown}
	case OnlinePIN:
		return emv.CVMResults{byte(emv.CVMOnlinePIN), byte(emv.CVMAlways), emv.CVMResultUnknown}
	case ConsumerDevice:
		return emv.CVMResults{byte(emv.CVMPlainPIN), byte(emv.CVMAlways), emv.CVMResultOK}
	}
	return emv.CVMResults{byte(emv.CVMNone), byte(emv.CVMAlways), emv.CVMResultOK}
}

// fastMissing says whether an object of fDDA has not been given yet.
func (r *run) fastMissing() bool {
	for _, tag := range []tlv.Tag{emv.TagCAIndex, emv.TagIssuerCert, emv.TagICCCert, emv.TagSDAD} {
		if !r.has(tag) {
			return true
		}
	}
	return r.lacks(emv.TagIssuerExponent) || r.lacks(emv.TagICCExponent) || r.out.PAN == ""
}

// olderFast says whether the card is of a version that makes no fDDA version 01
// (CARD.md 1.7: 9F08 is then not 0030). A card that does not say it yet may.
func (r *run) olderFast() bool {
	v, ok := r.icc[emv.TagVersion]
	return ok && !bytes.Equal(v, []byte{0x00, 0x30})
}

// verifyFast checks the dynamic signature (CARD.md 1.7): version 01 where the
// card gave 9F69, whose transaction qualifiers must then be those of 9F6C, and
// version 00 otherwise.
func (r *run) verifyFast(d dialect) error {
	if !r.aip.Has(emv.AIPDDA) {
		return errNoODA
	}
	f := emv.FastDDA{UN: r.tx.Unpredictable, Amount: [6]byte(r.term[emv.TagAmount]), Currency: [2]byte(r.term[emv.TagCurrency])}
	if auth, ok := r.icc[emv.TagCardAuth]; ok {
		if len(auth) != d.cardAuth || auth[0] != 0x01 || !r.ttq.Has(emv.TTQFastDDA01) || !bytes.Equal(auth[5:7], r.icc[emv.TagCTQ]) {
			return errNoODA
		}
		f.Version, f.CardAuth = 1, auth
	}
	_, err := emv.VerifyFastDDA(r.card, r.icc[emv.TagSDAD], f, r.icc[emv.TagATC])
	return err
}
