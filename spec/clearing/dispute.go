package clearing

import "koala/spec/pan"

// A Dispute is one line of the file of dispute transactions (ERR for the
// acquirer: ERRA). Its columns are those of part 3 of the switch's technical
// specification as two public programs read them, a loader in C and an importer
// in Java (AerraEnum): they agree in the number and width of the first 51. Of
// these the first 39 are here, what stands behind them is kept as it stands.
//
// No published column has a number of the case: a line names its own transaction
// (Trace, Sent, Sender) and the sale (RRN and the columns of the one before).
type Dispute struct {
	Flag       string  // 1: what is done, see Flags; 3
	Agent      string  // 2: institution acting for the acquirer, 11
	Sender     string  // 3: field 33, 11
	Trace      string  // 4: of this transaction, 6 digits
	Sent       string  // 5: MMDDhhmmss
	PAN        pan.PAN // 6
	Amount     int64   // 7: disputed; of E05 the fee for the copy, n12
	MTI        string  // 8: 0422; 0420 takes the same back
	Processing string  // 9: 6 digits
	MCC        string  // 10
	Terminal   string  // 11: 8
	RRN        string  // 12: of the transaction before, 12
	Condition  string  // 13
	Approval   string  // 14
	Receiver   string  // 15
	Issuer     string  // 16
	FirstTrace string  // 17: trace of the transaction before
	Response   string  // 18
	Entry      string  // 19
	Receivable int64   // 20: interchange the acquirer receives, n12
	Payable    int64   // 21: interchange the acquirer pays, n12
	Instalment int64   // 22: n12
	Switch     string  // 23: one program has the switch's fee here, the other the cardholder's: as it stands, 12
	Due        int64   // 24: charge for the dispute that is received, n12
	Owed       int64   // 25: charge for it that is paid, n12
	Reason     string  // 26: reason code, 4
	Out        string  // 27: institution of the card money goes from, 11
	OutCard    string  // 28: 19
	In         string  // 29: institution of the card it goes to, 11
	InCard     string  // 30: 19
	First      string  // 31: moment of the transaction before, MMDDhhmmss
	CardSeq    string  // 32
	Reading    string  // 33
	ICC        string  // 34
	Cleared    string  // 35: settlement day of the transaction before, MMDD
	Sold       int64   // 36: its amount, n12
	Region     string  // 37
	ECI        string  // 38
	Merchant   string  // 39: 15
	Rest       string  // 40 and behind
}

// The flags that this house knows. E05 to E84 are named by two programs of
// acquirers; the request for a receipt moves no money and is in neither list: the
// house reads E04, the number before its answer.
const (
	Requested      = "E04" // the issuer asks for the receipt
	Replied        = "E05" // and pays for its copy
	Claimed        = "E22" // the acquirer claims what was not cleared
	ChargedBack    = "E23" // the issuer takes the sale back
	Represented    = "E24" // the acquirer has it again
	ChargedAgain   = "E25" // the issuer takes it back once more
	CreditAdjusted = "E32" // the acquirer gives back what it had too much
	ManualRefund   = "E74" // a refund by hand of a sale that is known
	LooseRefund    = "E84" // and of one that is not
)

var disputes = []column[Dispute]{
	{"flag", 3, text, func(d *Dispute) *string { return &d.Flag }, nil},
	{"agent", 11, text, func(d *Dispute) *string { return &d.Agent }, nil},
	{"sender", 11, text, func(d *Dispute) *string { return &d.Sender }, nil},
	{"trace", 6, digits, func(d *Dispute) *string { return &d.Trace }, nil},
	{"sent", 10, digits, func(d *Dispute) *string { return &d.Sent }, nil},
	{"card", 19, number, func(d *Dispute) *string { return (*string)(&d.PAN) }, nil},
	{"amount", 12, amount, nil, func(d *Dispute) *int64 { return &d.Amount }},
	{"message type", 4, digits, func(d *Dispute) *string { return &d.MTI }, nil},
	{"processing code", 6, digits, func(d *Dispute) *string { return &d.Processing }, nil},
	{"category", 4, text, func(d *Dispute) *string { return &d.MCC }, nil},
	{"terminal", 8, text, func(d *Dispute) *string { return &d.Terminal }, nil},
	{"retrieval reference", 12, text, func(d *Dispute) *string { return &d.RRN }, nil},
	{"condition", 2, text, func(d *Dispute) *string { return &d.Condition }, nil},
	{"approval", 6, text, func(d *Dispute) *string { return &d.Approval }, nil},
	{"receiver", 11, text, func(d *Dispute) *string { return &d.Receiver }, nil},
	{"issuer", 11, text, func(d *Dispute) *string { return &d.Issuer }, nil},
	{"original trace", 6, text, func(d *Dispute) *string { return &d.FirstTrace }, nil},
	{"response", 2, text, func(d *Dispute) *string { return &d.Response }, nil},
	{"entry mode", 3, text, func(d *Dispute) *string { return &d.Entry }, nil},
	{"fee receivable", 12, amount, nil, func(d *Dispute) *int64 { return &d.Receivable }},
	{"fee payable", 12, amount, nil, func(d *Dispute) *int64 { return &d.Payable }},
	{"instalment fee", 12, amount, nil, func(d *Dispute) *int64 { return &d.Instalment }},
	{"switch's or cardholder's fee", 12, text, func(d *Dispute) *string { return &d.Switch }, nil},
	{"charge received", 12, amount, nil, func(d *Dispute) *int64 { return &d.Due }},
	{"charge paid", 12, amount, nil, func(d *Dispute) *int64 { return &d.Owed }},
	{"reason", 4, text, func(d *Dispute) *string { return &d.Reason }, nil},
	{"institution out", 11, text, func(d *Dispute) *string { return &d.Out }, nil},
	{"card out", 19, text, func(d *Dispute) *string { return &d.OutCard }, nil},
	{"institution in", 11, text, func(d *Dispute) *string { return &d.In }, nil},
	{"card in", 19, text, func(d *Dispute) *string { return &d.InCard }, nil},
	{"original time", 10, text, func(d *Dispute) *string { return &d.First }, nil},
	{"card sequence", 3, text, func(d *Dispute) *string { return &d.CardSeq }, nil},
	{"reading ability", 1, text, func(d *Dispute) *string { return &d.Reading }, nil},
	{"chip condition", 1, text, func(d *Dispute) *string { return &d.ICC }, nil},
	{"original settlement day", 4, text, func(d *Dispute) *string { return &d.Cleared }, nil},
	{"original amount", 12, amount, nil, func(d *Dispute) *int64 { return &d.Sold }},
	{"region", 1, text, func(d *Dispute) *string { return &d.Region }, nil},
	{"ECI", 2, text, func(d *Dispute) *string { return &d.ECI }, nil},
	{"merchant", 15, text, func(d *Dispute) *string { return &d.Merchant }, nil},
}

// DisputeWidth is the bytes of the 39 columns with the spaces between them.
const DisputeWidth = 332 + 38

// IsDispute tells a line of the dispute file from one of the general file, whose
// first column is an institution's number.
func IsDispute(line []byte) bool {
	return len(line) > 3 && line[0] == 'E' && allDigits(line[1:3]) && line[3] == ' '
}

// ParseDispute reads a line without its line end, as Parse does.
func ParseDispute(line []byte) (d Dispute, err error) {
	d.Rest, err = parseLine(disputes, &d, line)
	return d, err
}

// Append writes d as a line without its line end, as Record.Append does.
func (d Dispute) Append(dst []byte) ([]byte, error) {
	return appendLine(disputes, &d, dst, d.Rest)
}

// Undone tells that the line takes back what an earlier one said.
func (d Dispute) Undone() bool { return d.MTI == "0420" }

// Known tells whether the flag is one whose money is known.
func (d Dispute) Known() bool { _, ok := sides[d.Flag]; return ok }

// sides says whose the amount is: 1 the acquirer's, -1 the issuer's, 0 nobody's.
var sides = map[string]int64{Requested: 0, Replied: 1, Claimed: 1, ChargedBack: -1, Represented: 1, ChargedAgain: -1, CreditAdjusted: -1, ManualRefund: -1, LooseRefund: -1}

// Fen is what the issuer owes the acquirer for d, before fees: negative when the
// acquirer pays.
func (d Dispute) Fen() int64 {
	n := sides[d.Flag] * d.Amount
	if d.Undone() {
		return -n
	}
	return n
}
