package shell

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"koala/customer"
	"koala/internal/db"
)

// Schema is who works for which merchant, who was invited, and what staff did.
// A member that left stays as a row; acts are only ever added.
var Schema = db.Schema{Owner: "merchant_staff", Steps: []string{
	`CREATE TABLE merchant_staff (
		customer TEXT PRIMARY KEY,
		merchant TEXT NOT NULL,
		role TEXT NOT NULL,
		left_at BIGINT NOT NULL,  -- 0: works there
		made BIGINT NOT NULL);
	CREATE INDEX merchant_staff_merchant ON merchant_staff (merchant, customer);
	CREATE TABLE merchant_invite (
		hash TEXT PRIMARY KEY,    -- SHA-256 of the code
		merchant TEXT NOT NULL,
		name TEXT NOT NULL,
		role TEXT NOT NULL,
		by_whom TEXT NOT NULL,
		made BIGINT NOT NULL,
		expires BIGINT NOT NULL,
		used TEXT NOT NULL);      -- customer; empty: not yet
	CREATE INDEX merchant_invite_merchant ON merchant_invite (merchant, made);
	CREATE TABLE merchant_act (
		id TEXT PRIMARY KEY,
		at BIGINT NOT NULL,
		merchant TEXT NOT NULL,
		who TEXT NOT NULL,        -- login name
		act TEXT NOT NULL,
		target TEXT NOT NULL,     -- page of what was changed
		what TEXT NOT NULL);
	CREATE INDEX merchant_act_merchant ON merchant_act (merchant, id);
	CREATE INDEX merchant_act_target ON merchant_act (target, id);
	CREATE TABLE merchant_paper (
		merchant TEXT NOT NULL,
		hash TEXT NOT NULL,       -- SHA-256 of the file
		media TEXT NOT NULL,
		sealed BYTEA NOT NULL,
		at BIGINT NOT NULL,
		PRIMARY KEY (merchant, hash))`,
}}

// InviteLife is how long an invitation may be used.
const InviteLife = 72 * time.Hour

// maxStaff bounds what is listed of one merchant.
const maxStaff = 500

// A Member is one person on a merchant's staff.
type Member struct {
	Customer customer.ID
	Merchant string
	Role     Role
	Left     time.Time // zero: works there
	Made     time.Time
}

const memberColumns = `customer, merchant, role, left_at, made`

func scanMember(scan func(...any) error) (m Member, err error) {
	var left, made int64
	err = scan(&m.Customer, &m.Merchant, &m.Role, &left, &made)
	if left != 0 {
		m.Left = db.Moment(left)
	}
	m.Made = db.Moment(made)
	return m, err
}

// MemberOf finds for which merchant a person works; found is false for who
// works for none.
func MemberOf(q db.Reader, id customer.ID) (m Member, found bool, err error) {
	m, err = scanMember(q.QueryRow(`SELECT `+memberColumns+` FROM merchant_staff WHERE customer = $1`, id).Scan)
	if errors.Is(err, db.ErrNoRows) {
		return m, false, nil
	}
	return m, err == nil && m.Left.IsZero(), err
}

// StaffOf lists who works or worked for a merchant.
func StaffOf(q db.Reader, merchant string) (out []Member, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		m, err := scanMember(scan)
		out = append(out, m)
		return err
	}, `SELECT `+memberColumns+` FROM merchant_staff WHERE merchant = $1 ORDER BY customer LIMIT $2`, merchant, maxStaff)
	return out, err
}

// Hire puts a person on a merchant's staff or gives another role. Who works
// for another merchant is ErrElsewhere.
func Hire(tx *db.Tx, id customer.ID, merchant string, r Role) error {
	if roleWords[r][0] == "" {
		return ErrRole
	}
	n, err := tx.Exec(`INSERT INTO merchant_staff (`+memberColumns+`) VALUES ($1, $2, $3, 0, $4)
		ON CONFLICT (customer) DO UPDATE SET merchant = excluded.merchant, role = excluded.role, left_at = 0
		WHERE merchant_staff.merchant = excluded.merchant OR merchant_staff.left_at <> 0`, id, merchant, r, tx.Now().UnixMicro())
	if err == nil && n == 0 {
		err = ErrElsewhere
	}
	if err != nil {
		return fmt.Errorf("staff of %s: %w", merchant, err)
	}
	return nil
}

// Let takes a person off a merchant's staff. Somebody must stay its owner.
func Let(tx *db.Tx, id customer.ID, merchant string) error {
	n, err := tx.Exec(`UPDATE merchant_staff SET left_at = $3 WHERE customer = $1 AND merchant = $2 AND left_at = 0`, id, merchant, tx.Now().UnixMicro())
	if err == nil && n == 0 {
		err = ErrNobody
	}
	if err == nil {
		err = owned(tx, merchant)
	}
	if err != nil {
		return fmt.Errorf("staff of %s: %w", merchant, err)
	}
	return nil
}

// owned refuses a unit that leaves a merchant without an owner.
func owned(tx *db.Tx, merchant string) error {
	var n int64
	err := tx.QueryRow(`SELECT COUNT(*) FROM merchant_staff WHERE merchant = $1 AND role = $2 AND left_at = 0`, merchant, Owner).Scan(&n)
	if err == nil && n == 0 {
		err = ErrLastOwner
	}
	return err
}

// Promote gives a member another role.
func Promote(tx *db.Tx, id customer.ID, merchant string, r Role) error {
	m, found, err := MemberOf(tx, id)
	if err == nil && (!found || m.Merchant != merchant) {
		err = ErrNobody
	}
	if err == nil {
		err = Hire(tx, id, merchant, r)
	}
	if err == nil {
		err = owned(tx, merchant)
	}
	return err
}

// An Invitation lets one person join a merchant's staff.
type Invitation struct {
	Merchant, Name string
	Role           Role
	By             string // login name
	Made, Expires  time.Time
	Used           customer.ID // empty: not yet
}

// HashCode is what is kept of an invitation's code.
func HashCode(code string) string {
	sum := sha256.Sum256([]byte(strings.ToUpper(strings.Join(strings.FieldsFunc(code, func(r rune) bool { return r == '-' || r == ' ' }), ""))))
	return hex.EncodeToString(sum[:])
}

// Invite keeps an invitation under the hash of its code.
func Invite(tx *db.Tx, hash string, i Invitation) error {
	if roleWords[i.Role][0] == "" {
		return ErrRole
	}
	now := tx.Now()
	_, err := tx.Exec(`INSERT INTO merchant_invite (hash, merchant, name, role, by_whom, made, expires, used) VALUES ($1, $2, $3, $4, $5, $6, $7, '')`,
		hash, i.Merchant, i.Name, i.Role, i.By, now.UnixMicro(), now.Add(InviteLife).UnixMicro())
	return err
}

const inviteColumns = `merchant, name, role, by_whom, made, expires, used`

func scanInvite(scan func(...any) error) (i Invitation, err error) {
	var made, expires int64
	err = scan(&i.Merchant, &i.Name, &i.Role, &i.By, &made, &expires, &i.Used)
	i.Made, i.Expires = db.Moment(made), db.Moment(expires)
	return i, err
}

// InvitationOf finds the invitation of a code that may still be used.
func InvitationOf(q db.Reader, code string, now time.Time) (Invitation, error) {
	i, err := scanInvite(q.QueryRow(`SELECT `+inviteColumns+` FROM merchant_invite WHERE hash = $1`, HashCode(code)).Scan)
	if errors.Is(err, db.ErrNoRows) || err == nil && (i.Used != "" || !now.Before(i.Expires)) {
		return i, ErrCode
	}
	return i, err
}

// Invitations lists a merchant's invitations that nobody has used yet.
func Invitations(q db.Reader, merchant string, now time.Time) (out []Invitation, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		i, err := scanInvite(scan)
		out = append(out, i)
		return err
	}, `SELECT `+inviteColumns+` FROM merchant_invite WHERE merchant = $1 AND used = '' AND expires > $2 ORDER BY made, hash LIMIT 100`, merchant, now.UnixMicro())
	return out, err
}

// Accept uses an invitation: once.
func Accept(tx *db.Tx, code string, id customer.ID) (Invitation, error) {
	i, err := InvitationOf(tx, code, tx.Now())
	if err != nil {
		return i, err
	}
	if err := Hire(tx, id, i.Merchant, i.Role); err != nil {
		return i, err
	}
	n, err := tx.Exec(`UPDATE merchant_invite SET used = $2 WHERE hash = $1 AND used = ''`, HashCode(code), id)
	if err == nil && n == 0 {
		err = ErrCode
	}
	return i, err
}

// A Deed is one act of a merchant's staff.
type Deed struct {
	ID       string
	At       time.Time
	Merchant string
	Who      string
	Act      Act
	Target   string
	What     string
}

// Keep writes an act down, in the act's own unit of work.
func Keep(tx *db.Tx, d Deed) error {
	_, err := tx.Exec(`INSERT INTO merchant_act (id, at, merchant, who, act, target, what) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		tx.NewID("act"), tx.Now().UnixMicro(), d.Merchant, d.Who, string(d.Act), d.Target, d.What)
	if err != nil {
		return fmt.Errorf("audit of %s: %w", d.Act, err)
	}
	return nil
}

// Deeds reads what a merchant's staff did, newest first; an empty target picks
// everything.
func Deeds(q db.Reader, merchant, target, before string, limit int) (out []Deed, err error) {
	if before == "" {
		before = "~" // behind every id
	}
	err = db.Each(q, func(scan func(...any) error) error {
		d, at := Deed{Merchant: merchant}, int64(0)
		err := scan(&d.ID, &at, &d.Who, &d.Act, &d.Target, &d.What)
		d.At = db.Moment(at)
		out = append(out, d)
		return err
	}, `SELECT id, at, who, act, target, what FROM merchant_act WHERE merchant = $1 AND id < $2 AND (target = $3 OR $3 = '') ORDER BY id DESC LIMIT $4`, merchant, before, target, limit)
	return out, err
}

// KeepPaper keeps a file that a merchant brought, sealed; the same again
// changes nothing.
func KeepPaper(tx *db.Tx, merchant, hash, media string, sealed []byte) error {
	_, err := tx.Exec(`INSERT INTO merchant_paper (merchant, hash, media, sealed, at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`, merchant, hash, media, sealed, tx.Now().UnixMicro())
	return err
}

// PaperOf reads a file that a merchant brought, sealed.
func PaperOf(q db.Reader, merchant, hash string) (media string, sealed []byte, err error) {
	err = q.QueryRow(`SELECT media, sealed FROM merchant_paper WHERE merchant = $1 AND hash = $2`, merchant, hash).Scan(&media, &sealed)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrPaper
	}
	return media, sealed, err
}
