package open

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
	"time"

	"koala/internal/db"
	"koala/tsm"
)

// A firm writes a card into a band only when its wearer agreed: the wearer
// makes a code, tells it to the firm, and the order that opens the card uses it
// up in the same unit.
const (
	// ConsentTime is how long a code lives.
	ConsentTime = 15 * time.Minute
	// MaxConsents is how many codes of a band may live at once.
	MaxConsents = 5
	// maxWrong wrong codes in a row end every living code of a band.
	maxWrong = 5
	// consentLength is that of a code without its dash: 40 bits.
	consentLength = 8
)

// consentLetters are the 32 characters of codes, without those that are read as
// others.
const consentLetters = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"

// A ConsentEnd is how a code ended.
type ConsentEnd string

// The ends of codes. One that is too old has no end of its own.
const (
	ConsentLives     ConsentEnd = ""
	ConsentUsed      ConsentEnd = "used"
	ConsentWithdrawn ConsentEnd = "withdrawn"
	ConsentGuessed   ConsentEnd = "guessed" // after wrong codes in a row
)

// A Consent is a wearer's word that a firm may write one card into a band. Its
// code is not kept, only a hash.
type Consent struct {
	ID          string // con_…
	Band, Owner string
	Partner     string    // empty: any
	Made        time.Time // by the house's clock
	Until       time.Time // by the clock of people
	End         ConsentEnd
	Ended       time.Time // zero: not yet
	By          string    // the partner that used it
	Order       string    // at tsm, which it was used for
}

// Lives tells whether a card can still be ordered with it.
func (c Consent) Lives(now time.Time) bool { return c.End == ConsentLives && now.Before(c.Until) }

// Agree keeps a new code of the band's owner for a partner, or for any when
// partner is empty, and gives it as ABCD-EFGH, this once. chance is at least 8
// random bytes. form names the form that asked: the same again is refused,
// because the code cannot be shown again. now is
// the time that people live by, also where the house's clock runs faster.
func Agree(tx *db.Tx, now time.Time, owner, band, partner, form string, chance []byte) (Consent, string, error) {
	c := Consent{ID: tx.NewID("con"), Band: band, Owner: owner, Partner: partner, Made: tx.Now(), Until: now.Add(ConsentTime)}
	b, err := tsm.BandOf(tx, band)
	if err == nil && (b.Owner != owner || !b.Lost.IsZero()) {
		err = fmt.Errorf("band %s: %w", band, tsm.ErrBand)
	}
	if err == nil && partner != "" {
		_, err = PartnerOf(tx, partner)
	}
	if err == nil && (form == "" || len(form) > 2*MaxName || len(chance) < consentLength) {
		err = fmt.Errorf("consent for band %s: %w", band, ErrBody)
	}
	if err != nil {
		return Consent{}, "", err
	}
	all, err := consents(tx, `band = $1 AND ended = 0 AND until > $2`, band, now.UnixMicro())
	if err == nil && len(all) >= MaxConsents {
		err = ErrConsentMany
	}
	if err != nil {
		return Consent{}, "", err
	}
	code := make([]byte, consentLength)
	for i := range code {
		code[i] = consentLetters[chance[i]%32]
	}
	hash := consentHash(c.ID, band, string(code))
	n, err := tx.Exec(`INSERT INTO open_consent (id, band, owner, partner, hash, form, made, until, ended, how, wrong, by_whom, tsm_order)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, '', 0, '', '') ON CONFLICT (form) DO NOTHING`,
		c.ID, band, owner, partner, hash, form, c.Made.UnixMicro(), c.Until.UnixMicro())
	if err == nil && n == 0 {
		err = ErrConsentShown
	}
	return c, string(code[:4]) + "-" + string(code[4:]), err
}

// consentHash is salted with the name of the code, so that equal codes differ.
func consentHash(id, band, code string) []byte {
	sum := sha256.Sum256([]byte(id + "\n" + band + "\n" + code))
	return sum[:]
}

// plainCode is a code as it was hashed, however it was typed.
func plainCode(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || r == ' ' {
			return -1
		}
		return r
	}, strings.ToUpper(s))
}

// ConsentsOf reads the codes that an owner made since a moment, newest first.
func ConsentsOf(q db.Reader, owner string, since time.Time) ([]Consent, error) {
	return consents(q, `owner = $1 AND made >= $2 ORDER BY id DESC`, owner, since.UnixMicro())
}

// ConsentsUsedBy reads what a partner was given leave for, newest first.
func ConsentsUsedBy(q db.Reader, partner string, limit int) ([]Consent, error) {
	return consents(q, `by_whom = $1 ORDER BY id DESC LIMIT $2`, partner, bound(limit))
}

func consents(q db.Reader, where string, args ...any) (out []Consent, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var c Consent
		var made, until, ended int64
		err := scan(&c.ID, &c.Band, &c.Owner, &c.Partner, &made, &until, &ended, &c.End, &c.By, &c.Order)
		c.Made, c.Until, c.Ended = db.Moment(made), db.Moment(until), db.Moment(ended)
		out = append(out, c)
		return err
	}, `SELECT id, band, owner, partner, made, until, ended, how, by_whom, tsm_order FROM open_consent WHERE `+where, args...)
	return out, err
}

// Withdraw ends a code of its owner; one that has ended stays as it is.
func Withdraw(tx *db.Tx, owner, id string) error {
	list, err := consents(tx, `id = $1 AND owner = $2`, id, owner)
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("consent %s: %w", id, ErrNoThing)
	}
	if err == nil {
		_, err = tx.Exec(`UPDATE open_consent SET ended = $2, how = $3 WHERE id = $1 AND ended = 0`, id, tx.Now().UnixMicro(), string(ConsentWithdrawn))
	}
	return err
}

// agreed finds the code that a partner brings for a band. A code that never was
// counts against every living code of the band, and that count is kept although
// the request is refused (kept refusal).
func agreed(tx *db.Tx, now time.Time, partner string, b tsm.Band, text string) (Consent, error) {
	all, err := consents(tx, `band = $1 AND owner = $2 ORDER BY id DESC`, b.ID, b.Owner)
	if err != nil {
		return Consent{}, err
	}
	code := plainCode(text)
	for _, c := range all {
		var hash []byte
		if err := tx.QueryRow(`SELECT hash FROM open_consent WHERE id = $1`, c.ID).Scan(&hash); err != nil {
			return Consent{}, err
		}
		if subtle.ConstantTimeCompare(hash, consentHash(c.ID, b.ID, code)) != 1 {
			continue
		}
		switch {
		case !c.Lives(now):
			return Consent{}, fmt.Errorf("consent %s: %w", c.ID, ErrConsentOver)
		case c.Partner != "" && c.Partner != partner:
			return Consent{}, fmt.Errorf("consent %s: %w", c.ID, ErrConsentFirm)
		}
		return c, nil
	}
	if err := wrongCode(tx, now, b.ID); err != nil {
		return Consent{}, err
	}
	return Consent{}, keptRefusal{fmt.Errorf("band %s: %w", b.ID, ErrConsent)}
}

// wrongCode counts against the living codes of a band, and ends them all when
// one of them has had enough.
func wrongCode(tx *db.Tx, now time.Time, band string) error {
	until := now.UnixMicro()
	if _, err := tx.Exec(`UPDATE open_consent SET wrong = wrong + 1 WHERE band = $1 AND ended = 0 AND until > $2`, band, until); err != nil {
		return err
	}
	var most int64
	err := tx.QueryRow(`SELECT COALESCE(MAX(wrong), 0) FROM open_consent WHERE band = $1 AND ended = 0 AND until > $2`, band, until).Scan(&most)
	if err == nil && most >= maxWrong {
		_, err = tx.Exec(`UPDATE open_consent SET ended = $3, how = $4 WHERE band = $1 AND ended = 0 AND until > $2`, band, until, tx.Now().UnixMicro(), string(ConsentGuessed))
	}
	return err
}

// useUp ends a code with the order it was given for; a right code ends a row of
// wrong ones.
func (c Consent) useUp(tx *db.Tx, partner, order string) error {
	n, err := tx.Exec(`UPDATE open_consent SET ended = $2, how = $3, by_whom = $4, tsm_order = $5 WHERE id = $1 AND ended = 0`,
		c.ID, tx.Now().UnixMicro(), string(ConsentUsed), partner, order)
	if err == nil && n == 0 {
		err = fmt.Errorf("consent %s: %w", c.ID, ErrConsentOver)
	}
	if err == nil {
		_, err = tx.Exec(`UPDATE open_consent SET wrong = 0 WHERE band = $1 AND ended = 0`, c.Band)
	}
	return err
}

// FirmOf is the partner that placed an order at tsm; found is false when no
// partner did.
func FirmOf(q db.Reader, order string) (p Partner, found bool, err error) {
	var code string
	err = q.QueryRow(`SELECT partner FROM open_order WHERE id = $1`, order).Scan(&code)
	if errors.Is(err, db.ErrNoRows) {
		return Partner{}, false, nil
	}
	if err == nil {
		p, err = PartnerOf(q, code)
	}
	return p, err == nil, err
}

// A keptRefusal refuses a request whose unit is kept all the same: it counted
// something, and changed nothing else.
type keptRefusal struct{ error }

func (k keptRefusal) Unwrap() error { return k.error }
