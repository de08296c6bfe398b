package kernel

import (
	"koala/spec/emv"
	"koala/spec/tlv"
)

// weighRisk is terminal risk management (EMV 4.4 Book 3, 10.6): exception
// list, floor limit, random selection and velocity.
func (r *run) weighRisk() error {
	if r.listed() {
		r.tvr.Set(emv.TVRException)
	}
	if r.tx.ForceOnline {
		r.tvr.Set(emv.TVRForcedOnline)
	}
	if !r.aip.Has(emv.AIPTerminalRisk) {
		return nil
	}
	r.tsi.Set(emv.TSITerminalRisk)
	if r.tx.Fen+r.tx.Spent >= r.app.ContactFloor {
		r.tvr.Set(emv.TVRFloorLimit)
	} else if r.selected() {
		r.tvr.Set(emv.TVRRandomOnline)
	}
	return r.velocity()
}

// selected is random selection, biased from the threshold on (Book 3,
// 10.6.2). The number drawn is one of 1 to 100.
func (r *run) selected() bool {
	percent := uint64(r.app.TargetPercent)
	if r.tx.Fen >= r.app.Threshold && r.app.ContactFloor > r.app.Threshold {
		more := uint64(r.app.MaxTargetPercent - r.app.TargetPercent)
		percent += more * (r.tx.Fen - r.app.Threshold) / (r.app.ContactFloor - r.app.Threshold)
	}
	return uint64(r.tx.Random%100)+1 <= percent
}

// velocity counts the transactions since the last one online (Book 3, 10.6.3).
func (r *run) velocity() error {
	lower, upper := r.icc[emv.TagLowerLimit], r.icc[emv.TagUpperLimit]
	if len(lower) != 1 || len(upper) != 1 {
		return nil
	}
	atc, ok1, err := r.atcOf(emv.TagATC)
	if err != nil {
		return err
	}
	last, ok2, err := r.atcOf(emv.TagLastOnlineATC)
	if err != nil {
		return err
	}
	if ok2 && last == 0 {
		r.tvr.Set(emv.TVRNewCard)
	}
	if !ok1 || !ok2 || atc <= last {
		r.tvr.Set(emv.TVRLowerLimit)
		r.tvr.Set(emv.TVRUpperLimit)
		return nil
	}
	if since := atc - last; since > uint16(lower[0]) {
		r.tvr.Set(emv.TVRLowerLimit)
		if since > uint16(upper[0]) {
			r.tvr.Set(emv.TVRUpperLimit)
		}
	}
	return nil
}

// code is an issuer action code, or what stands for one the card lacks (Book
// 3, 10.7): nothing for denial, everything for online and default.
func (r *run) code(tag tlv.Tag) emv.TVR {
	if v := r.icc[tag]; len(v) == 5 {
		return emv.TVR(v)
	}
	if tag == emv.TagIACDenial {
		return emv.TVR{}
	}
	return emv.TVR{0xFF, 0xFF, 0xFF, 0xFF, 0xFF}
}

// wanted is terminal action analysis: the kind of cryptogram to ask for.
func (r *run) wanted() byte {
	switch {
	case r.tvr.Meets(r.code(emv.TagIACDenial)), r.tvr.Meets(r.app.TACDenial):
		return emv.AAC
	case r.k.offlineOnly():
		return r.withoutHost()
	case r.k.onlineOnly(), r.tx.ForceOnline, r.tvr.Meets(r.code(emv.TagIACOnline)), r.tvr.Meets(r.app.TACOnline):
		return emv.ARQC
	}
	return emv.TC
}

// withoutHost decides by the default action codes when there is no host.
func (r *run) withoutHost() byte {
	if r.tvr.Meets(r.code(emv.TagIACDefault)) || r.tvr.Meets(r.app.TACDefault) {
		return emv.AAC
	}
	return emv.TC
}

// offlineOnly and onlineOnly read the terminal type (EMV 4.4 Book 4, A1).
func (k *Kernel) offlineOnly() bool { return k.cfg.Type&0x0F == 3 || k.cfg.Type&0x0F == 6 }

func (k *Kernel) onlineOnly() bool { return k.cfg.Type&0x0F == 1 || k.cfg.Type&0x0F == 4 }
