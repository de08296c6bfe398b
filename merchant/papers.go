package merchant

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"koala/internal/db"
)

// A Document is the record of a paper or photo: the house keeps its hash, and
// the file with whoever holds files.
type Document struct {
	Kind  DocKind
	Hash  [32]byte // SHA-256 of the file
	Size  int64    // bytes
	Media string   // image/jpeg
	By    string
	At    time.Time
}

// A DocKind is what a document shows.
type DocKind string

// The kinds of documents.
const (
	DocLicence  DocKind = "licence"
	DocIDFront  DocKind = "id_front"
	DocIDBack   DocKind = "id_back"
	DocAccount  DocKind = "account" // the permit or a picture of the card
	DocDoor     DocKind = "door"    // the front of the shop with its sign
	DocInside   DocKind = "inside"
	DocContract DocKind = "contract"
)

var docWords = map[DocKind][2]string{DocLicence: {"licence", "营业执照"}, DocIDFront: {"identity card, front", "身份证正面"}, DocIDBack: {"identity card, back", "身份证反面"},
	DocAccount: {"account", "开户证明"}, DocDoor: {"door", "门头照"}, DocInside: {"inside", "店内照"}, DocContract: {"contract", "协议"}}

// Words says the kind for people, in Chinese if zh.
func (k DocKind) Words(zh bool) string { return pick(docWords[k], string(k), zh) }

// papers lists which documents a form must show (house rule: what the card
// networks ask their members to keep).
var papers = map[Form][]DocKind{
	Enterprise: {DocLicence, DocIDFront, DocAccount, DocDoor},
	Individual: {DocLicence, DocIDFront, DocDoor},
	Micro:      {DocIDFront, DocDoor},
}

func (d Document) shape() error {
	if _, known := docWords[d.Kind]; !known || d.Hash == [32]byte{} || d.Size <= 0 || len(d.Media) > 60 || strings.ContainsFunc(d.Media, unicode.IsControl) {
		return ErrDocument
	}
	return nil
}

func missingPapers(f Form, docs []Document) string {
	var missing []string
	for _, k := range papers[f] {
		if !slices.ContainsFunc(docs, func(d Document) bool { return d.Kind == k }) {
			missing = append(missing, string(k))
		}
	}
	if missing == nil {
		return ""
	}
	return "missing: " + strings.Join(missing, ", ")
}

// writeDocuments writes documents handed in at once as their row keeps them:
// a line each of kind, hash, size and media.
func writeDocuments(docs []Document) string {
	b := make([]byte, 0, 100*len(docs))
	for i, d := range docs {
		if i > 0 {
			b = append(b, '\n')
		}
		b = append(append(b, d.Kind...), ' ')
		b = append(hex.AppendEncode(b, d.Hash[:]), ' ')
		b = append(strconv.AppendInt(b, d.Size, 10), ' ')
		b = append(b, d.Media...)
	}
	return string(b)
}

// readDocuments reads what writeDocuments wrote.
func readDocuments(text string) (out []Document, err error) {
	for line := range strings.SplitSeq(text, "\n") {
		parts := strings.SplitN(line, " ", 4)
		if len(parts) != 4 {
			return nil, fmt.Errorf("line of documents %q: %w", line, ErrDocument)
		}
		d := Document{Kind: DocKind(parts[0]), Media: parts[3]}
		hash, err := hex.DecodeString(parts[1])
		if err == nil {
			d.Size, err = strconv.ParseInt(parts[2], 10, 64)
		}
		if err != nil || copy(d.Hash[:], hash) != len(d.Hash) || len(hash) != len(d.Hash) || d.shape() != nil {
			return nil, fmt.Errorf("line of documents %q: %w", line, ErrDocument)
		}
		out = append(out, d)
	}
	return out, nil
}

func docRow(tx *db.Tx, merchant, by string, docs []Document) []any {
	return []any{merchant, tx.NewSeq(), by, micros(tx.Now()), writeDocuments(docs)}
}

func addDocuments(tx *db.Tx, merchant, by string, docs []Document) error {
	if len(docs) == 0 {
		return nil
	}
	return docSheet.insert(tx, docRow(tx, merchant, by, docs))
}

// AddDocument keeps another document of a merchant and says again whether all
// that are needed are there.
func AddDocument(tx *db.Tx, merchant, by string, d Document) error {
	if err := d.shape(); err != nil {
		return fmt.Errorf("document of %s: %w", merchant, err)
	}
	m, err := Of(tx, merchant)
	if err != nil {
		return err
	}
	if err := addDocuments(tx, merchant, by, []Document{d}); err != nil || m.State != Checking {
		return err
	}
	docs, err := DocumentsOf(tx, merchant)
	if err != nil {
		return err
	}
	c := Check{What: CheckPapers, Result: Pass}
	if c.Note = missingPapers(m.Form, docs); c.Note != "" {
		c.Result = Fail
	}
	return addChecks(tx, merchant, "", []Check{c})
}

// DocumentsOf reads the documents of a merchant, oldest first.
func DocumentsOf(q db.Reader, merchant string) (out []Document, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var by, text string
		var at int64
		if err := scan(&by, &at, &text); err != nil {
			return err
		}
		docs, err := readDocuments(text)
		for _, d := range docs {
			d.By, d.At = by, db.Moment(at)
			out = append(out, d)
		}
		return err
	}, `SELECT who, at, lines FROM merchant_document WHERE merchant = $1 ORDER BY seq`, merchant)
	return out, err
}

// A Denied is somebody the house makes no contract with.
type Denied struct {
	Name    string
	Licence string
	Person  string // token of an identity number, as Desk.PersonToken gives it
	Why, By string
	Source  string // who says so: a list of the networks, a court, the house's own desk
}

// Deny puts a name, licence or token of a person on the deny list.
func Deny(tx *db.Tx, d Denied) error {
	if d.By == "" || d.Why == "" || len(d.Why) > MaxWhy || len(d.Source) > MaxText || d.Name == "" && d.Licence == "" && d.Person == "" {
		return fmt.Errorf("deny list: %w", ErrStaff)
	}
	for _, name := range d.names() {
		_, err := tx.Exec(`INSERT INTO merchant_deny (name, why, source, who, at) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (name) DO UPDATE SET why = excluded.why, source = excluded.source, who = excluded.who, at = excluded.at`, name, d.Why, d.Source, d.By, micros(tx.Now()))
		if err != nil {
			return err
		}
	}
	return nil
}

func (d Denied) names() (out []string) {
	if d.Name != "" {
		out = append(out, "name:"+foldName(d.Name))
	}
	if d.Licence != "" {
		out = append(out, "licence:"+d.Licence)
	}
	if d.Person != "" {
		out = append(out, "person:"+d.Person)
	}
	return out
}

// A Denial is one entry of the deny list.
type Denial struct {
	Key     string // name:…, licence:…, person:<token>
	Why, By string
	Source  string
	At      time.Time
}

// Kind and Value are the halves of its key.
func (d Denial) Kind() string  { kind, _, _ := strings.Cut(d.Key, ":"); return kind }
func (d Denial) Value() string { _, value, _ := strings.Cut(d.Key, ":"); return value }

// Denials reads the deny list by key, from the one after the given.
func Denials(q db.Reader, after string, limit int) (out []Denial, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var d Denial
		var at int64
		err := scan(&d.Key, &d.Why, &d.Source, &d.By, &at)
		d.At = db.Moment(at)
		out = append(out, d)
		return err
	}, `SELECT name, why, source, who, at FROM merchant_deny WHERE name > $1 ORDER BY name LIMIT $2`, after, limited(limit))
	return out, err
}

// DenialOf finds an entry of the deny list.
func DenialOf(q db.Reader, key string) (d Denial, err error) {
	var at int64
	err = q.QueryRow(`SELECT name, why, source, who, at FROM merchant_deny WHERE name = $1`, key).Scan(&d.Key, &d.Why, &d.Source, &d.By, &at)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return d, fmt.Errorf("on the deny list: %w", err)
	}
	d.At = db.Moment(at)
	return d, nil
}

// Lift takes an entry off the deny list.
func Lift(tx *db.Tx, key string) error {
	n, err := tx.Exec(`DELETE FROM merchant_deny WHERE name = $1`, key)
	if err == nil && n == 0 {
		err = fmt.Errorf("on the deny list: %w", ErrNotFound)
	}
	return err
}

// The kinds of entries of the deny list.
const (
	DenyName    = "name"
	DenyLicence = "licence"
	DenyPerson  = "person" // by identity number
)

// The bounds of a file of denials.
const (
	MaxDenials   = 5_000   // lines
	MaxDenyBytes = 1 << 20 // of the file
)

// A DenyLine is one line of a file of denials, or what staff enter by hand.
type DenyLine struct {
	Line   int    // from 1; 0: entered by hand
	Kind   string // name, licence, person
	Value  string // of a person the identity number
	Why    string
	Source string
	Err    error // what is wrong with it
}

// Check says what is wrong with a line.
func (l DenyLine) Check() error {
	fits := func(s string) bool {
		return s != "" && len(s) <= MaxWhy && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
	}
	if !fits(l.Why) || !fits(l.Source) {
		return fmt.Errorf("reason and source: %w", ErrDeny)
	}
	switch l.Kind {
	case DenyName:
		if !plainText(l.Value, MaxName) || foldName(l.Value) == "" {
			return ErrName
		}
		return nil
	case DenyLicence:
		return CheckCredit(l.Value)
	case DenyPerson:
		return CheckIdentity(l.Value)
	}
	return fmt.Errorf("kind %.20q: %w", l.Kind, ErrDeny)
}

// ReadDenials reads a file of denials: CSV with the head line
// kind,value,reason,source. A line that does not read says why, and the others go
// on; a file that is no such table is ErrDeny.
func ReadDenials(in io.Reader) (out []DenyLine, err error) {
	raw, err := io.ReadAll(io.LimitReader(in, MaxDenyBytes+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > MaxDenyBytes {
		return nil, fmt.Errorf("a file of more than %d bytes: %w", MaxDenyBytes, ErrDeny)
	}
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(raw, []byte("\uFEFF"))))
	r.FieldsPerRecord, r.TrimLeadingSpace = -1, true
	head, err := r.Read()
	if err != nil || !slices.Equal(head, []string{"kind", "value", "reason", "source"}) {
		return nil, fmt.Errorf("head line: %w", ErrDeny)
	}
	for {
		f, err := r.Read()
		if err == io.EOF {
			return out, nil
		}
		if len(out) == MaxDenials {
			return nil, fmt.Errorf("more than %d lines: %w", MaxDenials, ErrDeny)
		}
		l := DenyLine{}
		var wrong *csv.ParseError
		switch {
		case errors.As(err, &wrong): // the reader goes on with the next line
			l.Line, l.Err = wrong.StartLine, fmt.Errorf("quotes: %w", ErrDeny)
		case err != nil:
			return nil, err
		case len(f) != len(head):
			l.Line, _ = r.FieldPos(0)
			l.Err = fmt.Errorf("%d fields: %w", len(f), ErrDeny)
		default:
			l.Line, _ = r.FieldPos(0)
			l.Kind, l.Value, l.Why, l.Source = strings.TrimSpace(f[0]), strings.TrimSpace(f[1]), strings.TrimSpace(f[2]), strings.TrimSpace(f[3])
			l.Err = l.Check()
		}
		out = append(out, l)
	}
}

// Denied makes what goes onto the list of a good line: a person by the token of
// the identity number.
func (d *Desk) Denied(ctx context.Context, l DenyLine) (out Denied, err error) {
	if err := l.Check(); err != nil {
		return out, err
	}
	out.Why, out.Source = l.Why, l.Source
	switch l.Kind {
	case DenyName:
		out.Name = l.Value
	case DenyLicence:
		out.Licence = l.Value
	default:
		out.Person, err = d.PersonToken(ctx, l.Value)
	}
	return out, err
}

// Key is under which name the entry of a single name, licence or person stands.
func (d Denied) Key() string {
	if names := d.names(); len(names) == 1 {
		return names[0]
	}
	return ""
}

// Papers lists which documents a form must show before its approval.
func Papers(f Form) []DocKind { return slices.Clone(papers[f]) }
