package kernel

import (
	"bytes"

	"koala/spec/emv"
	"koala/spec/iso7816"
)

// verifyHolder goes through the card's list of verification methods (EMV 4.4
// Book 3, 10.5): the first rule whose condition holds and whose method
// succeeds ends it; one that fails ends it too unless it lets the next try.
func (r *run) verifyHolder() error {
	r.cvm = emv.CVMResults{byte(emv.CVMNotPerformed), 0, emv.CVMResultUnknown}
	if !r.aip.Has(emv.AIPCVM) {
		return nil
	}
	list, err := emv.ParseCVMList(r.icc[emv.TagCVMList])
	if r.has(emv.TagCVMList) && err != nil {
		return errCard
	}
	if len(list.Rules) == 0 {
		r.tvr.Set(emv.TVRDataMissing)
		return nil
	}
	r.tsi.Set(emv.TSICVM)
	r.cvm = emv.CVMResults{byte(emv.CVMNotPerformed), 0, emv.CVMResultFailed}
	for _, rule := range list.Rules {
		if !r.applies(rule, list) {
			continue
		}
		done, result, err := r.method(rule.Method())
		if err != nil {
			return err
		}
		r.cvm = emv.NewCVMResults(rule, result)
		if done {
			return nil
		}
		if !rule.Next() || rule.Method() == emv.CVMFail {
			break
		}
	}
	r.tvr.Set(emv.TVRCVMFailed)
	return nil
}

// applies says whether a rule's condition holds (Book 3, C3).
func (r *run) applies(rule emv.CVMRule, list emv.CVMList) bool {
	cash := r.tx.Type == typeCash
	unattended := r.k.cfg.Type&0x0F >= 4
	inCurrency := bytes.Equal(r.icc[emv.TagCardCurrency], r.term[emv.TagCurrency])
	switch rule.Condition {
	case emv.CVMAlways:
		return true
	case emv.CVMUnattendedCash:
		return cash && unattended
	case emv.CVMNotCash:
		return !cash && r.tx.Type != typeCashback
	case emv.CVMIfSupported:
		return r.supports(rule.Method())
	case emv.CVMManualCash:
		return cash && !unattended
	case emv.CVMCashback:
		return r.tx.Type == typeCashback
	case emv.CVMUnderX:
		return inCurrency && r.tx.Fen < uint64(list.X)
	case emv.CVMOverX:
		return inCurrency && r.tx.Fen > uint64(list.X)
	case emv.CVMUnderY:
		return inCurrency && r.tx.Fen < uint64(list.Y)
	case emv.CVMOverY:
		return inCurrency && r.tx.Fen > uint64(list.Y)
	}
	return false
}

// supports says whether the terminal has what a method needs.
func (r *run) supports(m emv.CVM) bool {
	c := emv.Capabilities(r.k.cfg.Capabilities)
	switch m {
	case emv.CVMFail:
		return true
	case emv.CVMPlainPIN:
		return c.Has(emv.CapPlainPIN) && r.seam.PIN != nil
	case emv.CVMPlainPINSign:
		return c.Has(emv.CapPlainPIN) && c.Has(emv.CapSignature) && r.seam.PIN != nil
	case emv.CVMOnlinePIN:
		return c.Has(emv.CapOnlinePIN) && r.seam.OnlinePIN != nil
	case emv.CVMSignature:
		return c.Has(emv.CapSignature)
	case emv.CVMNone:
		return c.Has(emv.CapNoCVM)
	case emv.CVMDocument:
		return c.Has(emv.CapDocument)
	}
	return false
}

// method performs one method. Enciphered PINs are not supported: the rule
// fails as any other does that the terminal lacks.
func (r *run) method(m emv.CVM) (done bool, result byte, err error) {
	pin := m >= emv.CVMPlainPIN && m <= emv.CVMEncipherSign
	switch {
	case m == emv.CVMFail:
		return false, emv.CVMResultFailed, nil
	case !pin && m != emv.CVMSignature && m != emv.CVMNone && m != emv.CVMDocument:
		r.tvr.Set(emv.TVRCVMUnknown)
		return false, emv.CVMResultFailed, nil
	case !r.supports(m):
		if pin {
			r.tvr.Set(emv.TVRNoPINPad)
		}
		return false, emv.CVMResultFailed, nil
	}
	switch m {
	case emv.CVMNone:
		r.out.CVM = NoCVMNeeded
		return true, emv.CVMResultOK, nil
	case emv.CVMSignature:
		r.out.CVM = Signature
		return true, emv.CVMResultUnknown, nil
	case emv.CVMDocument:
		r.out.CVM = Document
		return true, emv.CVMResultUnknown, nil
	case emv.CVMOnlinePIN:
		block, ok := r.enterOnlinePIN()
		if !ok {
			r.tvr.Set(emv.TVRPINNotEntered)
			return false, emv.CVMResultFailed, nil
		}
		r.tvr.Set(emv.TVROnlinePIN)
		r.pin, r.out.CVM = block, OnlinePIN
		return true, emv.CVMResultUnknown, nil
	}
	ok, err := r.offlinePIN()
	switch {
	case err != nil || !ok:
		return false, emv.CVMResultFailed, err
	case m == emv.CVMPlainPINSign:
		r.out.CVM = PINAndSignature
		return true, emv.CVMResultUnknown, nil
	}
	r.out.CVM = OfflinePIN
	return true, emv.CVMResultOK, nil
}

// offlinePIN has the card check a PIN until it is right, none is entered or no
// tries are left (Book 3, 10.5.1; VERIFY with a plaintext block, 6.5.12).
func (r *run) offlinePIN() (bool, error) {
	tries := -1
	left, ok, err := r.readData(emv.TagPINTries)
	if err != nil {
		return false, err
	}
	if ok && len(left) == 1 {
		if tries = int(left[0]); tries == 0 {
			r.tvr.Set(emv.TVRPINTries)
			return false, nil
		}
	}
	for range maxPINTries {
		pin, ok := r.seam.PIN(tries)
		if !ok {
			break
		}
		block, err := emv.PINBlock(pin)
		if err != nil {
			break
		}
		a, err := r.send(iso7816.Command{INS: iso7816.InsVerify, P2: 0x80, Data: block[:], Le: iso7816.NoLe})
		if err != nil {
			return false, end(TryAgain, Torn)
		}
		n, wrong := a.SW.Tries()
		switch {
		case a.SW.OK():
			return true, nil
		case a.SW == iso7816.SWBlocked, a.SW == iso7816.SWReferenceInvalid, wrong && n == 0:
			r.tvr.Set(emv.TVRPINTries)
			return false, nil
		case !wrong:
			return false, nil
		}
		tries = n
	}
	r.tvr.Set(emv.TVRPINNotEntered)
	return false, nil
}

// maxPINTries bounds what a card with a broken counter can make people type.
const maxPINTries = 15
