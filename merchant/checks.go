package merchant

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"koala/calendar"
	"koala/internal/db"
)

// A What names one check.
type What string

// The checks. The first seven need no person.
const (
	CheckLicence  What = "licence"           // the code's check character and division
	CheckPerson   What = "identity"          // the number's check character; of age
	CheckHolder   What = "account"           // whose the settlement account is
	CheckDeny     What = "deny_list"         // name, licence and person
	CheckAgain    What = "duplicate"         // another merchant under the same licence or person
	CheckAccount  What = "duplicate_account" // the same account under another name
	CheckCategory What = "category"          // a trade that may take cards
	CheckPapers   What = "papers"            // all documents are there
	CheckSeen     What = "seen"              // a person has looked at papers and door
)

var whatWords = map[What][2]string{CheckLicence: {"licence number", "营业执照号"}, CheckPerson: {"identity number", "法人身份证号"},
	CheckHolder: {"settlement account", "结算账户"}, CheckDeny: {"deny list", "黑名单"}, CheckAgain: {"registered before", "重复进件"},
	CheckAccount: {"account used elsewhere", "结算账户重复"}, CheckCategory: {"category", "商户类别"}, CheckPapers: {"documents complete", "资料齐全"},
	CheckSeen: {"documents looked at", "人工审核"}}

// Words says what is checked for people, in Chinese if zh.
func (w What) Words(zh bool) string { return pick(whatWords[w], string(w), zh) }

// needed lists what must have passed before an approval.
var needed = []What{CheckLicence, CheckPerson, CheckHolder, CheckDeny, CheckAgain, CheckAccount, CheckCategory, CheckPapers, CheckSeen}

// A Result is how a check ended.
type Result string

// The results.
const (
	Pass   Result = "pass"
	Fail   Result = "fail"
	Waived Result = "waived" // it failed, and staff let it stand, with a reason
)

var resultWords = map[Result][2]string{Pass: {"passed", "通过"}, Fail: {"failed", "未通过"}, Waived: {"waived", "人工放行"}}

// Words says the result for people, in Chinese if zh.
func (r Result) Words(zh bool) string { return pick(resultWords[r], string(r), zh) }

// A Check is one check of a merchant: who looked at what, when, with which
// result.
type Check struct {
	What   What
	Result Result
	Note   string // which merchant, which document: never a personal number
	By     string // empty: the house's own program
	At     time.Time
}

// closedTrades are categories that take no cards of this house: betting is not
// lawful on the mainland (house rule).
var closedTrades = []string{"7800", "7801", "7802", "7995"}

// known is what the checks of one application look up.
type known struct {
	denied  func(name string) (why string, bad bool)
	again   string // another merchant under the same ident
	account string // another merchant with the same account and another holder
}

// examine makes every check that needs no person. It is pure: what stands in
// the store comes in by k, the day by now.
func (x drawn) examine(k known, now time.Time) []Check {
	var out []Check
	note := func(w What, why string) {
		c := Check{What: w, Result: Pass, Note: why}
		if why != "" {
			c.Result = Fail
		}
		out = append(out, c)
	}
	note(CheckLicence, x.licenceFlaw())
	note(CheckPerson, x.personFlaw(now))
	note(CheckHolder, x.holderFlaw())
	note(CheckDeny, x.denyFlaw(k.denied))
	note(CheckAgain, named("registered as ", k.again))
	note(CheckAccount, named("the account of ", k.account))
	why := ""
	if slices.Contains(closedTrades, x.Shop.MCC) {
		why = "this trade takes no cards here"
	}
	note(CheckCategory, why)
	note(CheckPapers, missingPapers(x.Form, x.Documents))
	return out
}

func named(before, who string) string {
	if who == "" {
		return ""
	}
	return before + who
}

func (x drawn) licenceFlaw() string {
	if x.Form == Micro {
		return ""
	}
	if err := CheckCredit(x.Licence); err != nil {
		return "the check character is wrong"
	}
	return ""
}

func (x drawn) personFlaw(now time.Time) string {
	if err := CheckIdentity(x.IDNumber); err != nil {
		return "the check character or the date is wrong"
	}
	d, _ := birth(x.IDNumber)
	if d.Year += 18; calendar.Of(now, calendar.Beijing).Before(d) {
		return "not of age"
	}
	return ""
}

// birth reads the date of birth at digits 7 to 14 of an identity number.
func birth(number string) (calendar.Date, bool) {
	y, _ := strconv.Atoi(number[6:10])
	m, _ := strconv.Atoi(number[10:12])
	d, _ := strconv.Atoi(number[12:14])
	date := calendar.Date{Year: y, Month: time.Month(m), Day: d}
	return date, date.AddDays(0) == date
}

// holderFlaw: an enterprise is paid on its own account, an individual business
// on its own or its owner's, a micro merchant on the owner's.
func (x drawn) holderFlaw() string {
	switch {
	case x.Holder == x.Name && x.Form != Micro, x.Holder == x.Legal && x.Form != Enterprise:
		return ""
	}
	return "the account is somebody else's"
}

func (x drawn) denyFlaw(denied func(string) (string, bool)) string {
	for _, name := range x.denyNames() {
		if why, bad := denied(name); bad {
			return why
		}
	}
	return ""
}

func (x drawn) denyNames() []string {
	names := []string{"name:" + foldName(x.Name), "name:" + foldName(x.Legal), "person:" + x.person}
	if x.Licence != "" {
		names = append(names, "licence:"+x.Licence)
	}
	return names
}

// foldName makes names comparable: wide Latin letters become narrow, letters
// small, and what is no letter or digit goes.
func foldName(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 0xFF01 && r <= 0xFF5E {
			r -= 0xFEE0
		}
		switch {
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r < 0x80 && (r < '0' || r > '9') && (r < 'a' || r > 'z'), r >= 0x3000 && r < 0x3040, r == '·':
			return -1
		}
		return r
	}, s)
}

// screen makes the checks of an application that stands in the store.
func screen(tx *db.Tx, m Merchant, x drawn) error {
	k := known{}
	var failed error
	k.denied = func(name string) (why string, bad bool) {
		err := tx.QueryRow(`SELECT why FROM merchant_deny WHERE name = $1`, name).Scan(&why)
		if err != nil && !errors.Is(err, db.ErrNoRows) {
			failed = err
		}
		return why, err == nil
	}
	again, err := parties(tx, `WHERE ident = $1 AND id <> $2 AND state NOT IN ('refused', 'closed') ORDER BY id LIMIT 1`, m.ident, m.ID)
	if err != nil {
		return err
	}
	if len(again) > 0 {
		k.again = again[0].ID + " " + again[0].Name
	}
	same, err := parties(tx, `WHERE account = $1 AND id <> $2 AND holder <> $3 AND state NOT IN ('refused', 'closed') ORDER BY id LIMIT 1`, m.token, m.ID, m.Holder)
	if err != nil {
		return err
	}
	if len(same) > 0 {
		k.account = same[0].ID + " " + same[0].Name
	}
	checks := x.examine(k, tx.Now())
	if failed != nil {
		return failed
	}
	if err := addChecks(tx, m.ID, "", checks); err != nil {
		return err
	}
	return move(tx, m, Checking, "", "")
}

// signs write a result in one character.
var signs = map[Result]string{Pass: "+", Fail: "-", Waived: "~"}

// writeChecks writes checks made at once as their row keeps them: a line each
// of what, sign and note.
func writeChecks(checks []Check) string {
	var b strings.Builder
	for i, c := range checks {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(string(c.What) + signs[c.Result] + c.Note)
	}
	return b.String()
}

// readChecks reads what writeChecks wrote.
func readChecks(text string) (out []Check, err error) {
	if text == "" {
		return nil, nil
	}
	for line := range strings.SplitSeq(text, "\n") {
		at := strings.IndexAny(line, "+-~")
		if at < 0 {
			return nil, fmt.Errorf("line of checks %q: %w", line, ErrDocument)
		}
		c := Check{What: What(line[:at]), Note: line[at+1:]}
		for r, sign := range signs {
			if sign == line[at:at+1] {
				c.Result = r
			}
		}
		out = append(out, c)
	}
	return out, nil
}

func checkRow(tx *db.Tx, merchant, by string, checks []Check) []any {
	return []any{merchant, tx.NewSeq(), by, micros(tx.Now()), writeChecks(checks)}
}

func addChecks(tx *db.Tx, merchant, by string, checks []Check) error {
	return checkSheet.insert(tx, checkRow(tx, merchant, by, checks))
}

// Record keeps what a member of staff found: a check looked at (Pass, Fail) or
// let stand although it failed (Waived, which needs a note).
func Record(tx *db.Tx, merchant string, c Check) error {
	_, known := whatWords[c.What]
	_, ended := resultWords[c.Result]
	if !known || !ended || c.By == "" || len(c.Note) > MaxText || strings.ContainsFunc(c.Note, unicode.IsControl) || c.Result == Waived && c.Note == "" {
		return fmt.Errorf("check %s of %s: %w", c.What, merchant, ErrStaff)
	}
	m, err := Of(tx, merchant)
	if err != nil {
		return err
	}
	if m.State != Checking {
		return fmt.Errorf("check %s of %s, which is %s: %w", c.What, merchant, m.State, ErrState)
	}
	return addChecks(tx, merchant, c.By, []Check{c})
}

// ChecksOf reads every check of a merchant, oldest first.
func ChecksOf(q db.Reader, merchant string) (out []Check, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var by, text string
		var at int64
		if err := scan(&by, &at, &text); err != nil {
			return err
		}
		lines, err := readChecks(text)
		for _, c := range lines {
			c.By, c.At = by, db.Moment(at)
			out = append(out, c)
		}
		return err
	}, `SELECT who, at, lines FROM merchant_check WHERE merchant = $1 ORDER BY seq`, merchant)
	return out, err
}

// Missing lists the checks that stand between a merchant and its approval:
// those whose newest result is a failure, and those never made.
func Missing(q db.Reader, m Merchant) (open []What, err error) {
	all, err := ChecksOf(q, m.ID)
	if err != nil {
		return nil, err
	}
	newest := map[What]Result{}
	for _, c := range all {
		newest[c.What] = c.Result
	}
	for _, w := range needed {
		if newest[w] != Pass && newest[w] != Waived {
			open = append(open, w)
		}
	}
	return open, nil
}
