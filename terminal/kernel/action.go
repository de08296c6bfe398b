package kernel

import (
	"crypto/sha1"

	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/tlv"
)

// Authorisation response codes that the terminal itself gives (EMV 4.4 Book 4,
// A6).
const (
	arcOfflineApproved = "Y1"
	arcOfflineDeclined = "Z1"
	arcNoHostApproved  = "Y3"
	arcNoHostDeclined  = "Z3"
)

// actions asks the card for its cryptogram and does what it decides (EMV 4.4
// Book 3, 10.7 to 10.11).
func (r *run) actions() error {
	if err := r.hashTC(); err != nil {
		return err
	}
	want := r.wanted()
	var err error
	if r.cdol1, err = r.telling(r.icc[emv.TagCDOL1]); err != nil {
		return err
	}
	if want == emv.TC {
		if err := r.commitContact(); err != nil {
			return err
		}
	}
	c, err := r.generate(r.signedKind(want), r.cdol1)
	if err != nil {
		return r.noCryptogram(err)
	}
	r.tsi.Set(emv.TSICardRisk)
	kind := c.cid.Kind()
	r.out.Committed = r.out.Committed && kind == emv.TC
	if kind == emv.TC && want != emv.TC || kind == emv.ARQC && want == emv.AAC {
		return end(Declined, CardError) // a card may only ask for less
	}
	genuine := true
	if r.combined && kind != emv.AAC && r.verifyCombined(c, nil) != nil {
		r.tvr.Set(emv.TVRCDAFailed)
		genuine = false
	}
	return r.first(kind, want, genuine)
}

// first does what the card decided by its first cryptogram, when want was asked
// for. One that is not genuine is no approval.
func (r *run) first(kind, want byte, genuine bool) error {
	switch {
	case kind == emv.AAC:
		r.out.ARC = arcOfflineDeclined
		if want == emv.AAC {
			return end(Declined, r.whyDeclined())
		}
		return end(Declined, CardDecided)
	case kind == emv.TC && !genuine:
		r.out.ARC = arcOfflineDeclined
		return end(Declined, PaidNotAccepted)
	case kind == emv.TC:
		r.out.ARC = arcOfflineApproved
		return end(Approved, NoReason)
	case !genuine:
		return r.second(Answer{ARC: arcOfflineDeclined}, emv.AAC, NotGenuine)
	}
	return r.askHost()
}

// commitContact has the device keep the approval before the card makes it:
// e-cash takes its money in GENERATE AC. Its cryptogram is not known yet.
func (r *run) commitContact() error {
	if r.seam.Commit == nil {
		return nil
	}
	if _, ok := r.icc[emv.TagATC]; !ok {
		v, ok, err := r.readData(emv.TagATC)
		if err != nil {
			return err
		}
		if !ok || len(v) != 2 {
			return nil // the card cannot be asked afterwards either
		}
		r.icc[emv.TagATC] = v
	}
	r.remember()
	if err := r.seam.Commit(&r.out); err != nil {
		return err
	}
	r.out.Committed = true
	return nil
}

// noCryptogram is the end when GENERATE AC brought none. A refusal is not a
// payment; of a card that left, or whose answer is malformed, nobody knows.
func (r *run) noCryptogram(err error) error {
	if s, ok := err.(*stop); ok && s.Reason == CardRefused {
		r.out.Committed = false
	} else if ok && s.Reason == CardError && r.out.Committed {
		return end(Declined, PaidNotAccepted)
	}
	return err
}

// signedKind adds the request for a combined signature where one was agreed.
func (r *run) signedKind(kind byte) byte {
	if r.combined && kind != emv.AAC {
		return kind | emv.RequestCDA
	}
	return kind
}

// hashTC computes the TC hash value where CDOL1 asks for it (Book 3, 9.2.2).
func (r *run) hashTC() error {
	dol, err := emv.ParseDOL(r.icc[emv.TagCDOL1])
	if err != nil {
		return errCard
	}
	if !dol.Has(emv.TagTCHash) {
		return nil
	}
	list := r.icc[emv.TagTDOL]
	if list == nil {
		list = r.app.TDOL
		r.tvr.Set(emv.TVRDefaultTDOL)
	}
	values, err := r.telling(list)
	if err != nil {
		return err
	}
	sum := sha1.Sum(values)
	r.term[emv.TagTCHash] = sum[:]
	return nil
}

// whyDeclined names the finding that weighed most, for the display.
func (r *run) whyDeclined() Reason {
	for _, x := range []struct {
		bit emv.TVRBit
		why Reason
	}{
		{emv.TVRException, OnExceptions}, {emv.TVRExpired, Expired}, {emv.TVRNotYetEffective, NotYetValid},
		{emv.TVRSDAFailed, NotGenuine}, {emv.TVRDDAFailed, NotGenuine}, {emv.TVRCDAFailed, NotGenuine},
		{emv.TVRCVMFailed, NoCVM}, {emv.TVRServiceNotAllowed, NotForThis},
	} {
		if r.tvr.Has(x.bit) {
			return x.why
		}
	}
	return TerminalDecided
}

// askHost sends the request and finishes with the card what the host says
// (Book 3, 10.9 to 10.11). Without a host the default action codes decide.
func (r *run) askHost() error {
	if _, err := r.telling(nil); err != nil { // the request carries TVR and CVM results as they are now
		return err
	}
	r.out.pin = r.pin
	r.remember()
	var a Answer
	err := ErrNoHost
	if r.seam.Issuer != nil {
		if r.seam.Online != nil {
			if err := r.seam.Online(&r.out); err != nil {
				return err
			}
		}
		a, err = r.seam.Issuer(r.out.Request())
	}
	if err != nil {
		if r.withoutHost() == emv.TC && !r.tx.ForceOnline {
			return r.second(Answer{ARC: arcNoHostApproved}, emv.TC, NoReason)
		}
		return r.second(Answer{ARC: arcNoHostDeclined}, emv.AAC, NoHost)
	}
	r.out.Online = true
	if err := r.authenticateHost(a); err != nil {
		return err
	}
	if err := r.scripts(a.Data, emv.TagScript1); err != nil {
		return err
	}
	if !a.Approves() {
		return r.second(a, emv.AAC, HostDeclined)
	}
	return r.second(a, emv.TC, NoReason)
}

// authenticateHost has the card check the host's cryptogram by EXTERNAL
// AUTHENTICATE where it wants that; other cards find 91 in CDOL2.
func (r *run) authenticateHost(a Answer) error {
	o, err := flat(a.Data)
	if err != nil {
		r.tvr.Set(emv.TVRIssuerAuthFailed)
		return nil
	}
	data, ok := o[emv.TagIssuerAuth]
	if !ok {
		return nil
	}
	r.term[emv.TagIssuerAuth] = data
	if !r.aip.Has(emv.AIPIssuerAuth) {
		return nil
	}
	r.tsi.Set(emv.TSIIssuerAuth)
	x, err := r.send(iso7816.Command{INS: iso7816.InsExternalAuthenticate, Data: data, Le: iso7816.NoLe})
	if err != nil {
		r.out.ARC = a.ARC
		return end(TryAgain, Torn)
	}
	if !x.SW.OK() {
		r.tvr.Set(emv.TVRIssuerAuthFailed)
	}
	return nil
}

// second asks for the final cryptogram and then has the card take the scripts
// that come after it. why is the reason when the answer is no.
func (r *run) second(a Answer, want byte, why Reason) error {
	r.out.ARC = a.ARC
	r.term[emv.TagARC] = []byte(a.ARC)
	values, err := r.telling(r.icc[emv.TagCDOL2])
	if err != nil {
		return err
	}
	c, err := r.generate(r.signedKind(want), values)
	if err != nil {
		return err
	}
	kind := c.cid.Kind()
	if r.combined && kind == emv.TC && r.verifyCombined(c, values) != nil {
		r.tvr.Set(emv.TVRCDAFailed)
		why, kind = NotGenuine, emv.AAC
	}
	if err := r.scripts(a.Data, emv.TagScript2); err != nil {
		return err
	}
	switch {
	case kind == emv.TC && want == emv.TC:
		return end(Approved, NoReason)
	case kind == emv.ARQC, kind == emv.TC:
		return end(Declined, CardError)
	case why != NoReason:
	case r.tvr.Has(emv.TVRIssuerAuthFailed):
		why = HostNotProved
	default:
		why = CardDecided
	}
	return end(Declined, why)
}

// scripts sends the commands of the templates with that tag, one after
// another, each script up to its first failure (Book 3, 10.10). When the card
// leaves, a script after the final cryptogram leaves the outcome as it is.
func (r *run) scripts(data []byte, template tlv.Tag) error {
	before := template == emv.TagScript1
	for len(data) > 0 {
		tag, val, rest, err := tlv.Next(data)
		if err != nil {
			return nil // told as IssuerAuthFailed before
		}
		if data = rest; tag != template {
			continue
		}
		r.tsi.Set(emv.TSIScript)
		s := r.script(val, before)
		r.out.Scripts = append(r.out.Scripts, s)
		if !s.OK() {
			r.tvr.Set(map[bool]emv.TVRBit{true: emv.TVRScriptBefore, false: emv.TVRScriptAfter}[before])
		}
		if s.Lost && before {
			return end(TryAgain, Torn)
		}
		if s.Lost {
			return nil
		}
	}
	return nil
}

func (r *run) script(val []byte, before bool) ScriptResult {
	s := ScriptResult{Before: before}
	var commands []iso7816.Command
	for len(val) > 0 {
		tag, v, rest, err := tlv.Next(val)
		if err != nil {
			s.Of = len(commands) + 1 // not a script: nothing of it is sent
			return s
		}
		val = rest
		switch tag {
		case emv.TagScriptID:
			copy(s.ID[:], v)
		case emv.TagScriptCommand:
			c, err := iso7816.ParseCommand(v)
			if err != nil {
				s.Of = len(commands) + 1
				return s
			}
			commands = append(commands, c)
		}
	}
	s.Of = len(commands)
	for _, c := range commands {
		a, err := r.send(c)
		if err != nil {
			s.SW, s.Lost = 0, true
			return s
		}
		s.SW = a.SW
		if hi := a.SW >> 8; hi != 0x90 && hi != 0x62 && hi != 0x63 {
			return s
		}
		s.Done++
	}
	return s
}
