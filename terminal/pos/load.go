package pos

import (
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/terminal"
	"koala/terminal/kernel"
)

// A LoadState says whether e-cash arrived on the card (CARD.md 1.11).
type LoadState byte

// States of a load.
const (
	NotLoaded LoadState = iota // the card has nothing; the host, if it was asked, is told
	Loaded                     // the card took the script
	Unknown                    // the card left with the script: Prove tells, or the host by the card's next request
)

// Words says the state, in Chinese if zh.
func (s LoadState) Words(zh bool) string {
	return [...]terminal.Words{{"not loaded", "未充值"}, {"loaded", "充值成功"}, {"load not confirmed, present the card again", "充值待确认，请重新出示卡片"}}[s].In(zh)
}

// A LoadResult is what a load came to.
type LoadResult struct {
	Result
	State LoadState
	Old   uint64     // e-cash before, minor units
	New   uint64     // afterwards; what Old was when nothing arrived
	SW    iso7816.SW // of the script, 0 when its answer never came
}

// Load adds fen to the card's e-cash: an online transaction whose answer
// carries the script that the card must take (CARD.md 1.11). It goes over the
// air as well as over contacts: it is the card's full debit/credit path.
func (t *Till) Load(card iso7816.Transmit, fen uint64) (LoadResult, error) {
	res := LoadResult{Result: Result{Sale: Sale{Fen: fen, Type: Load}, At: t.cfg.Clock.Now(), Batch: t.book.batch}}
	if err := t.shelf.Room(); terminal.NoRoom(err) {
		res.Outcome = kernel.Outcome{Result: kernel.EndApplication, Reason: kernel.NoRoom}
		return res, nil
	} else if err != nil {
		return res, t.failed(err)
	}
	card = t.meter.Tap(card)
	h, o := t.k.Look(card)
	switch {
	case o.Result != kernel.Approved:
		res.Outcome = o
		return res, nil
	case h.Limit > 0 && (fen > h.Limit || h.Fen > h.Limit-fen):
		res.Outcome = kernel.Outcome{Result: kernel.EndApplication, Reason: kernel.AmountTooHigh}
		return res, nil
	}
	res.Old, res.New = h.Fen, h.Fen
	x, err := t.transaction(Sale{Fen: fen, Type: Load, ForceOnline: true, Chosen: h.AID}, res.At)
	if err != nil {
		return res, t.failed(err)
	}
	res.STAN = x.Sequence
	a := &act{t: t, sale: res.Sale, stan: x.Sequence, at: res.At}
	seams := a.seams()
	seams.Commit, seams.Doubt, seams.Settle = nil, nil, nil // nothing is approved offline here
	if res.Outcome, err = t.k.Insert(card, x, seams); err == nil {
		err = a.finishLoad(&res, card)
	}
	res.Took = t.meter.Took
	if err != nil {
		return res, t.failed(err)
	}
	return res, nil
}

// finishLoad brings a load to its record: the load itself, or the reversal of
// one that the card does not have. One that nobody knows about stays open.
func (a *act) finishLoad(res *LoadResult, card iso7816.Transmit) error {
	var script *kernel.ScriptResult
	for i, s := range res.Outcome.Scripts {
		if script = &res.Outcome.Scripts[i]; s.Lost {
			break
		}
	}
	switch {
	case script != nil && script.Lost:
		res.State = Unknown
		return nil
	case script != nil && script.OK() && script.Of > 0 && res.Outcome.Result == kernel.Approved:
		res.State, res.SW, res.New = Loaded, script.SW, res.Old+res.Sale.Fen
		if h, o := a.t.k.Look(card); o.Result == kernel.Approved {
			res.New = h.Fen
		}
		return a.keep(&res.Result, pboc.ClearOnline)
	case script != nil:
		res.SW = script.SW
	}
	if a.begun == "" || res.Outcome.Online && !approves(res.Outcome.ARC) {
		return a.drop()
	}
	return a.keep(&res.Result, pboc.ClearCancel)
}

// Prove reads what a card says about its loads: the balance, and the signed
// log by which the issuer decides a load that is Unknown here.
func (t *Till) Prove(card iso7816.Transmit) (kernel.Holding, kernel.Outcome) { return t.k.Look(card) }

// Balance asks a card for its e-cash, minor units, by GET DATA 9F79.
func (t *Till) Balance(card iso7816.Transmit) (fen uint64, o kernel.Outcome) {
	h, o := t.k.Look(card)
	return h.Fen, o
}

// Identify tells whose card it is, and what it holds, by a transaction for
// nothing that is declined whatever the card says: Prove alone does not read
// the number.
func (t *Till) Identify(card iso7816.Transmit) (pan string, h kernel.Holding, o kernel.Outcome, err error) {
	x, err := t.transaction(Sale{ForceOnline: true}, t.cfg.Clock.Now())
	if err != nil {
		return "", h, o, t.failed(err)
	}
	if o, err = t.k.Insert(card, x, kernel.Seams{}); err != nil {
		return "", h, o, t.failed(err)
	}
	if pan = o.PAN; pan == "" || o.Result == kernel.TryAgain {
		return pan, h, o, nil
	}
	h, o = t.k.Look(card)
	return pan, h, o, nil
}
