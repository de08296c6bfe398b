package dispute

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"koala/calendar"
	"koala/internal/db"
)

// Kind is what a piece of evidence is.
type Kind string

// The kinds, from the tap to the door.
const (
	Messages    Kind = "messages"  // the switch's log of the request and its answer, masked
	ChipData    Kind = "chip"      // field 55 and whether its cryptogram was verified
	ReceiptCopy Kind = "receipt"   // the slip as it was printed
	Signature   Kind = "signature" // the hash of its image, or that a PIN was checked
	Delivery    Kind = "delivery"  // documents of the shop
	Statement   Kind = "statement" // what the shop says
)

var kindOrder = []Kind{Messages, ChipData, ReceiptCopy, Signature, Statement, Delivery}

var kindWords = map[Kind][2]string{
	Messages: {"messages of the switch", "交易报文"}, ChipData: {"chip data", "芯片数据"}, ReceiptCopy: {"receipt", "签购单"},
	Signature: {"signature", "签名"}, Delivery: {"documents of the shop", "商户凭证"}, Statement: {"what the shop says", "商户说明"},
}

// Words says the kind for people, in Chinese if zh.
func (k Kind) Words(zh bool) string { return pick(kindWords, k, zh) }

// A Piece is one piece of evidence. Its data must show no whole card number.
type Piece struct {
	Kind Kind      `json:"kind"`
	Name string    `json:"name"` // file name, unique in a pack
	Type string    `json:"type"` // media type; text is printed
	At   time.Time `json:"at"`
	Hash string    `json:"sha256"`
	Data []byte    `json:"data"`
}

// A Source knows evidence about sales: the switch, the bank, the receipts.
type Source interface {
	Evidence(ctx context.Context, c Case) ([]Piece, error)
}

// A Sealer keeps documents from who reads the store: the hsm.
type Sealer interface {
	Seal(ctx context.Context, clear []byte) ([]byte, error)
	Unseal(ctx context.Context, sealed []byte) ([]byte, error)
}

// A Document is what a shop uploaded.
type Document struct {
	Hash string // SHA-256 of what was uploaded
	Name string
	Type string
	Size int64
	Who  string
	At   time.Time
}

// Upload keeps a document of the shop, sealed; the same bytes again change
// nothing.
func Upload(ctx context.Context, store *db.Store, seal Sealer, id, who, name, mediaType string, data []byte) (Document, error) {
	d := Document{Hash: hashOf(data), Name: name, Type: mediaType, Size: int64(len(data)), Who: who}
	bad := name == "" || len(name) > 100 || strings.ContainsAny(name, "/\\\n") || !utf8.ValidString(name) || mediaType == "" || len(mediaType) > 100
	if bad || who == "" || len(data) == 0 || len(data) > MaxDocument {
		return d, fmt.Errorf("document of dispute %s: %w", id, ErrDocument)
	}
	sealed, err := seal.Seal(ctx, data)
	if err != nil {
		return d, fmt.Errorf("sealing a document of dispute %s: %w", id, err)
	}
	err = store.Write(ctx, func(tx *db.Tx) error {
		c, err := Get(tx, id)
		if err == nil && c.State.Final() {
			err = fmt.Errorf("dispute %s: %w", id, ErrState)
		}
		if err != nil {
			return err
		}
		var n int64
		if err := tx.QueryRow(`SELECT COUNT(*) FROM dispute_document WHERE dispute = $1 AND hash <> $2`, id, d.Hash).Scan(&n); err != nil {
			return err
		}
		if n >= MaxDocuments {
			return fmt.Errorf("dispute %s: %w", id, ErrDocument)
		}
		d.At = tx.Now()
		_, err = tx.Exec(`INSERT INTO dispute_document (dispute, hash, name, type, size, sealed, who, at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
			ON CONFLICT (dispute, hash) DO NOTHING`, id, d.Hash, d.Name, d.Type, d.Size, sealed, who, d.At.UnixMicro())
		return err
	})
	return d, err
}

func hashOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// Documents lists what a shop uploaded, oldest first.
func Documents(q db.Reader, id string) (out []Document, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var d Document
		var at int64
		err := scan(&d.Hash, &d.Name, &d.Type, &d.Size, &d.Who, &at)
		d.At = db.Moment(at)
		out = append(out, d)
		return err
	}, `SELECT hash, name, type, size, who, at FROM dispute_document WHERE dispute = $1 ORDER BY at, hash`, id)
	return out, err
}

// errDamaged says that what was kept is not what was uploaded.
var errDamaged = errors.New("dispute: a kept document does not match its hash")

// DocumentData is a document as it was uploaded.
func DocumentData(ctx context.Context, store *db.Store, seal Sealer, id, hash string) ([]byte, error) {
	var sealed []byte
	err := store.Read(ctx, func(q *db.Query) error {
		return q.QueryRow(`SELECT sealed FROM dispute_document WHERE dispute = $1 AND hash = $2`, id, hash).Scan(&sealed)
	})
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNone
	}
	if err != nil {
		return nil, fmt.Errorf("document of dispute %s: %w", id, err)
	}
	data, err := seal.Unseal(ctx, sealed)
	if err == nil && hashOf(data) != hash {
		err = errDamaged
	}
	if err != nil {
		return nil, fmt.Errorf("document of dispute %s: %w", id, err)
	}
	return data, nil
}

// A Pack is the evidence of a case from tap to receipt. Manifest has a line
// "<SHA-256>  <name>" for each piece, in order; Hash is its SHA-256 and stands in
// what is sent to the issuer.
type Pack struct {
	Hash     string
	Manifest string
	JSON     []byte // everything
	Text     string // for printing
	Lacks    []Kind // what the reason asks for and nobody has
}

// Gather collects the evidence of a case from the sources, the shop's words and
// its documents, makes the pack and keeps it with the case.
func Gather(ctx context.Context, store *db.Store, seal Sealer, id, who string, sources ...Source) (Pack, error) {
	var c Case
	var said []Event
	var docs []Document
	err := store.Read(ctx, func(q *db.Query) (err error) {
		if c, err = Get(q, id); err == nil {
			said, err = History(q, id)
		}
		if err == nil {
			docs, err = Documents(q, id)
		}
		return err
	})
	if err != nil {
		return Pack{}, err
	}
	var pieces []Piece
	for _, s := range sources {
		more, err := s.Evidence(ctx, c)
		if err != nil {
			return Pack{}, fmt.Errorf("evidence of dispute %s: %w", id, err)
		}
		pieces = append(pieces, more...)
	}
	for i, e := range said {
		if e.Was == e.Is {
			pieces = append(pieces, Piece{Kind: Statement, Name: fmt.Sprintf("statement-%d.txt", i+1), Type: "text/plain", At: e.At, Data: []byte(e.Who + ": " + e.Why)})
		}
	}
	for _, d := range docs {
		data, err := DocumentData(ctx, store, seal, id, d.Hash)
		if err != nil {
			return Pack{}, err
		}
		pieces = append(pieces, Piece{Kind: Delivery, Name: d.Name, Type: d.Type, At: d.At, Data: data})
	}
	p, err := Build(c, pieces)
	if err != nil {
		return Pack{}, err
	}
	sealed, err := seal.Seal(ctx, p.JSON)
	if err != nil {
		return Pack{}, fmt.Errorf("sealing the evidence of dispute %s: %w", id, err)
	}
	return p, store.Write(ctx, func(tx *db.Tx) error { return keepPack(tx, c.ID, who, p, sealed) })
}

func keepPack(tx *db.Tx, id, who string, p Pack, sealed []byte) error {
	c, err := Get(tx, id)
	if err == nil && c.State.Final() {
		err = fmt.Errorf("dispute %s: %w", id, ErrState)
	}
	if err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO dispute_pack (hash, dispute, manifest, sealed, who, at) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (hash) DO NOTHING`,
		p.Hash, id, p.Manifest, sealed, who, tx.Now().UnixMicro())
	if err == nil {
		_, err = tx.Exec(`UPDATE dispute_case SET pack = $2 WHERE id = $1`, id, p.Hash)
	}
	return err
}

// PackOf reads the pack that was kept for a case last.
func PackOf(ctx context.Context, store *db.Store, seal Sealer, id string) (Pack, error) {
	var c Case
	var sealed []byte
	err := store.Read(ctx, func(q *db.Query) (err error) {
		if c, err = Get(q, id); err != nil {
			return err
		}
		return q.QueryRow(`SELECT sealed FROM dispute_pack WHERE hash = $1`, c.Pack).Scan(&sealed)
	})
	if errors.Is(err, db.ErrNoRows) {
		err = ErrEvidence
	}
	if err != nil {
		return Pack{}, fmt.Errorf("evidence of dispute %s: %w", id, err)
	}
	text, err := seal.Unseal(ctx, sealed)
	var b bundle
	if err == nil {
		err = json.Unmarshal(text, &b)
	}
	if err != nil {
		return Pack{}, fmt.Errorf("evidence of dispute %s: %w", id, err)
	}
	p := b.pack()
	if p.JSON = text; p.Hash != c.Pack {
		return Pack{}, fmt.Errorf("evidence of dispute %s: %w", id, errDamaged)
	}
	return p, nil
}

// A bundle is the JSON of a pack. It names the case as it was when the sale was
// made and disputed, not how it stands.
type bundle struct {
	Case   string  `json:"case"`
	Ref    string  `json:"network_number"`
	RRN    string  `json:"rrn"`
	Payee  string  `json:"shop"`
	Sold   string  `json:"sold"`
	Amount string  `json:"disputed"`
	Code   string  `json:"reason"`
	En     string  `json:"reason_en"`
	Zh     string  `json:"reason_zh"`
	Pieces []Piece `json:"pieces"`
}

// Build makes a pack of pieces; the same pieces in any order make the same pack.
func Build(c Case, pieces []Piece) (Pack, error) {
	r, _ := ReasonOf(c.Reason)
	b := bundle{Case: c.ID, Ref: c.Ref, RRN: c.Sale.RRN, Payee: c.Sale.Payee, Sold: c.Sale.At.In(calendar.Beijing).Format(time.RFC3339),
		Amount: c.Amount.String(), Code: c.Reason, En: r.En, Zh: r.Zh, Pieces: slices.Clone(pieces)}
	for i := range b.Pieces {
		b.Pieces[i].Hash, b.Pieces[i].At = hashOf(b.Pieces[i].Data), b.Pieces[i].At.UTC().Truncate(time.Microsecond)
		if p := b.Pieces[i]; !slices.Contains(kindOrder, p.Kind) || p.Name == "" || strings.ContainsAny(p.Name, "\n\r") || len(p.Data) == 0 {
			return Pack{}, fmt.Errorf("piece %q of dispute %s: %w", p.Name, c.ID, ErrDocument)
		}
	}
	slices.SortStableFunc(b.Pieces, func(x, y Piece) int {
		return cmp.Or(slices.Index(kindOrder, x.Kind)-slices.Index(kindOrder, y.Kind), x.At.Compare(y.At), cmp.Compare(x.Name, y.Name), cmp.Compare(x.Hash, y.Hash))
	})
	p := b.pack()
	for _, k := range r.Wants {
		if !slices.ContainsFunc(b.Pieces, func(x Piece) bool { return x.Kind == k }) {
			p.Lacks = append(p.Lacks, k)
		}
	}
	var err error
	p.JSON, err = json.MarshalIndent(b, "", " ")
	return p, err
}

func (b bundle) pack() Pack {
	var manifest strings.Builder
	head := b
	head.Pieces = nil
	text, err := json.Marshal(head)
	if err != nil {
		panic(err) // strings only
	}
	fmt.Fprintf(&manifest, "%s  case\n", hashOf(text))
	for _, p := range b.Pieces {
		fmt.Fprintf(&manifest, "%s  %s/%s\n", p.Hash, p.Kind, p.Name)
	}
	p := Pack{Manifest: manifest.String(), Hash: hashOf([]byte(manifest.String()))}
	p.Text = b.text(p)
	return p
}

// text prints a pack: what the case is, each piece of text, the hash of each
// other one, and the manifest.
func (b bundle) text(p Pack) string {
	var out bytes.Buffer
	fmt.Fprintf(&out, "EVIDENCE 差错证据材料\n\ncase 案件        %s (%s)\nsale 交易参考号  %s\nshop 商户        %s\nsold 交易时间    %s\namount 争议金额  %s\nreason 原因      %s %s / %s\n",
		b.Case, b.Ref, b.RRN, b.Payee, b.Sold, b.Amount, b.Code, b.En, b.Zh)
	for i, x := range b.Pieces {
		fmt.Fprintf(&out, "\n%d. %s %s: %s, %s\n", i+1, x.Kind.Words(false), x.Kind.Words(true), x.Name, x.At.In(calendar.Beijing).Format("2006-01-02 15:04:05"))
		if strings.HasPrefix(x.Type, "text/") && utf8.Valid(x.Data) {
			fmt.Fprintf(&out, "   %s\n", strings.ReplaceAll(strings.TrimRight(string(x.Data), "\n"), "\n", "\n   "))
			continue
		}
		fmt.Fprintf(&out, "   %s, %d bytes, SHA-256 %s\n", x.Type, len(x.Data), x.Hash)
	}
	fmt.Fprintf(&out, "\nMANIFEST 清单\n%s\nSHA-256 %s\n", p.Manifest, p.Hash)
	return out.String()
}
