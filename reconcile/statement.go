package reconcile

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"koala/calendar"
)

// A Statement is a bank's account statement in the house's own form, version 1:
//
//	koala-statement,1,<account>,<from day>,<to day>,
//	line,booked,fen,reference,counterparty,text
//	<line>,<RFC 3339>,<fen, minus for a debit>,<reference>,<counterparty>,<text>
//	total,<lines>,<sum of fen>,,,
//	sha256,<of all bytes before this line, hexadecimal>,,,,
//
// in CSV (RFC 4180) of six columns, UTF-8. The reference is what the payer was
// told to write: "clearing <host> <day>", "payout <id>" or "return <id>".
type Statement struct {
	Account  string
	From, To calendar.Date
	Lines    []StatementLine
	Hash     string // SHA-256 of the whole file, hexadecimal
}

// A StatementLine is one movement on the bank account.
type StatementLine struct {
	Ref       string // the bank's, unique on the account
	Booked    time.Time
	Fen       int64 // above zero: money came in
	Reference string
	Party     string
	Text      string
}

const statementColumns = 6

// ParseStatement reads a statement and proves its totals and its hash.
func ParseStatement(in []byte) (s Statement, err error) {
	p := statementParser{in: in, csv: csv.NewReader(bytes.NewReader(in))}
	p.csv.FieldsPerRecord = statementColumns
	if err := p.head(&s); err != nil {
		return Statement{}, err
	}
	seen := map[string]bool{}
	sum := int64(0)
	for {
		rec, err := p.next()
		if err != nil {
			return Statement{}, err
		}
		if rec[0] == "total" {
			if rec[1] != strconv.Itoa(len(s.Lines)) {
				return Statement{}, p.at(1, fmt.Sprintf("%d lines were read: the file is not whole", len(s.Lines)))
			}
			if rec[2] != strconv.FormatInt(sum, 10) {
				return Statement{}, p.at(2, fmt.Sprintf("the lines sum to %d fen: ask the bank for the file again", sum))
			}
			break
		}
		l, err := p.line(rec)
		if err != nil {
			return Statement{}, err
		}
		if seen[l.Ref] {
			return Statement{}, p.at(0, "this line number stands twice")
		}
		seen[l.Ref] = true
		if len(s.Lines) == MaxStatement {
			return Statement{}, p.at(0, fmt.Sprintf("at most %d lines: ask for shorter periods", MaxStatement))
		}
		sum += l.Fen
		s.Lines = append(s.Lines, l)
	}
	if err := p.seal(); err != nil {
		return Statement{}, err
	}
	whole := sha256.Sum256(in)
	s.Hash = hex.EncodeToString(whole[:])
	return s, nil
}

type statementParser struct {
	in  []byte
	csv *csv.Reader
	n   int
}

func (p *statementParser) next() ([]string, error) {
	rec, err := p.csv.Read()
	p.n++
	var bad *csv.ParseError
	switch {
	case errors.Is(err, io.EOF):
		return nil, &FormatError{p.n, 0, "the file ends before its total and hash: ask for it again"}
	case errors.As(err, &bad):
		return nil, &FormatError{bad.Line, bad.Column, fmt.Sprintf("%d columns of CSV are needed: %v", statementColumns, bad.Err)}
	case err != nil:
		return nil, &FormatError{p.n, 0, "no CSV"}
	}
	return rec, nil
}

// at is an error at a field of the record read last.
func (p *statementParser) at(field int, need string) error {
	line, column := p.csv.FieldPos(field)
	return &FormatError{line, column, need}
}

func (p *statementParser) head(s *Statement) error {
	rec, err := p.next()
	if err != nil {
		return err
	}
	if rec[0] != "koala-statement" || rec[1] != "1" || rec[2] == "" || rec[5] != "" {
		return p.at(0, "begins with koala-statement,1,<account>,<from>,<to>,")
	}
	s.Account = rec[2]
	if s.From, err = calendar.Parse(rec[3]); err != nil {
		return p.at(3, "a day like 2015-09-16")
	}
	if s.To, err = calendar.Parse(rec[4]); err != nil || s.To.Before(s.From) {
		return p.at(4, "a day like 2015-09-16, not before the first")
	}
	if rec, err = p.next(); err == nil && strings.Join(rec, ",") != "line,booked,fen,reference,counterparty,text" {
		err = p.at(0, "the column names: line,booked,fen,reference,counterparty,text")
	}
	return err
}

// maxFen bounds a statement line: what one amount can be.
const maxFen = 9_000_000_000_000

func (p *statementParser) line(rec []string) (l StatementLine, err error) {
	l = StatementLine{Ref: rec[0], Reference: rec[3], Party: rec[4], Text: rec[5]}
	if l.Ref == "" || len(l.Ref) > 64 || l.Ref == "sha256" {
		return l, p.at(0, "the bank's number of the line, up to 64 bytes")
	}
	at, err := time.Parse(time.RFC3339, rec[1])
	if err != nil || at.Year() < 2000 || at.Year() > 2200 {
		return l, p.at(1, "a time like 2015-09-17T08:00:00+08:00")
	}
	l.Booked = at.UTC()
	l.Fen, err = strconv.ParseInt(rec[2], 10, 64)
	if err != nil || l.Fen == 0 || l.Fen > maxFen || l.Fen < -maxFen {
		return l, p.at(2, "fen as a whole number other than 0")
	}
	for i, v := range rec[3:] {
		if len(v) > 200 {
			return l, p.at(3+i, "at most 200 bytes")
		}
	}
	return l, nil
}

// seal checks the hash line and that nothing follows it.
func (p *statementParser) seal() error {
	end := p.csv.InputOffset()
	rec, err := p.next()
	if err != nil {
		return err
	}
	sum := sha256.Sum256(p.in[:end])
	if rec[0] != "sha256" || rec[1] != hex.EncodeToString(sum[:]) {
		return p.at(1, "the SHA-256 of all before it: the file was changed on its way, ask for it again")
	}
	if _, err := p.csv.Read(); !errors.Is(err, io.EOF) {
		return &FormatError{p.n + 1, 0, "nothing may follow the hash"}
	}
	return nil
}

// AppendStatement writes s in the form that ParseStatement reads. Times keep
// whole seconds.
func AppendStatement(dst []byte, s Statement) []byte {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	put := func(fields ...string) {
		for len(fields) < statementColumns {
			fields = append(fields, "")
		}
		if err := w.Write(fields); err != nil {
			panic(err) // a bytes.Buffer takes everything
		}
	}
	put("koala-statement", "1", s.Account, s.From.String(), s.To.String())
	put("line", "booked", "fen", "reference", "counterparty", "text")
	sum := int64(0)
	for _, l := range s.Lines {
		sum += l.Fen
		put(l.Ref, l.Booked.In(calendar.Beijing).Format(time.RFC3339), strconv.FormatInt(l.Fen, 10), l.Reference, l.Party, l.Text)
	}
	put("total", strconv.Itoa(len(s.Lines)), strconv.FormatInt(sum, 10))
	w.Flush()
	hash := sha256.Sum256(b.Bytes())
	put("sha256", hex.EncodeToString(hash[:]))
	w.Flush()
	return append(dst, b.Bytes()...)
}

// A purpose is what a line's reference says it is for.
type purpose struct {
	what string // clearing, payout, return; empty: nobody knows
	host string
	day  calendar.Date
	id   string
}

func purposeOf(reference string) (p purpose) {
	words := strings.Fields(reference)
	switch {
	case len(words) == 3 && words[0] == "clearing":
		day, err := calendar.Parse(words[2])
		if err != nil {
			return purpose{}
		}
		return purpose{what: "clearing", host: words[1], day: day}
	case len(words) == 2 && (words[0] == "payout" || words[0] == "return"):
		return purpose{what: words[0], id: words[1]}
	}
	return purpose{}
}
