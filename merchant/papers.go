package merchant

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

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

// Deny puts a name, licence or token of a person on the deny list.
func Deny(tx *db.Tx, d Denied) error {
	if d.By == "" || d.Why == "" || len(d.Why) > MaxWhy || d.Name == "" && d.Licence == "" && d.Person == "" {
		return fmt.Errorf("deny list: %w", ErrStaff)
	}
	for _, name := range d.names() {
		_, err := tx.Exec(`INSERT INTO merchant_deny (name, why, who, at) VALUES ($1, $2, $3, $4)
			ON CONFLICT (name) DO UPDATE SET why = excluded.why, who = excluded.who, at = excluded.at`, name, d.Why, d.By, micros(tx.Now()))
		if err != nil {
			return err
		}
	}
	return nil
}

// A Denied is somebody the house makes no contract with.
type Denied struct {
	Name    string
	Licence string
	Person  string // token of an identity number, as Desk.PersonToken gives it
	Why, By string
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

// Papers lists which documents a form must show before its approval.
func Papers(f Form) []DocKind { return slices.Clone(papers[f]) }
