// Package customer keeps the people koala serves: who they are, how they log
// in, what they may do. Money, cards and bands belong to other packages, which
// know a person only by the ID made here.
//
// Start with Desk: Register opens a record, Login checks a secret. A phone
// number is sealed before it reaches the store, and only its masked form is
// ever shown; a secret is kept as a salted PBKDF2 hash.
package customer

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"koala/internal/fail"
)

// An ID names one customer for ever: "cust_" and a time-ordered tail.
type ID string

// A Role is one thing a person may do; a record holds a set of them.
type Role string

const (
	Wearer   Role = "wearer"   // has a band and a wallet
	Operator Role = "operator" // staff: sees orders, gates, books; repairs
	Auditor  Role = "auditor"  // staff: sees everything, changes nothing
	Trader   Role = "trader"   // works for a merchant: sees the merchant's console
)

// Roles lists every role there is, in the order pages show them.
var Roles = []Role{Wearer, Operator, Auditor, Trader}

// A Customer is one person as everybody may see them.
type Customer struct {
	ID      ID
	Login   string // unique, lower case
	Name    string // as the person writes it, 1 to MaxName runes
	Phone   string // masked: 138****5678
	Roles   []Role
	Opened  time.Time
	Blocked bool // may not log in; set by staff, cleared by staff
}

// Has tells whether c holds role r.
func (c Customer) Has(r Role) bool {
	for _, have := range c.Roles {
		if have == r {
			return true
		}
	}
	return false
}

// Limits of a record.
const (
	MaxName   = 40 // runes
	MaxLogin  = 32 // bytes
	MinSecret = 6  // bytes
	MaxSecret = 72 // bytes; longer ones only cost the server time
	MaxPage   = 200

	// MaxTries wrong secrets in a row lock a login for LockFor.
	MaxTries = 5
	LockFor  = 15 * time.Minute
)

// What can go wrong, as callers and pages see it.
var (
	ErrNotFound = fail.Define(fail.NotFound, "customer.not_found", "there is no such customer")
	ErrTaken    = fail.Define(fail.Conflict, "customer.login_taken", "this login name is taken")
	ErrName     = fail.Define(fail.Invalid, "customer.name", "a name has 1 to 40 letters and no control characters")
	ErrLogin    = fail.Define(fail.Invalid, "customer.login", "a login has 2 to 32 characters: a-z, 0-9, dot, dash, underscore")
	ErrPhone    = fail.Define(fail.Invalid, "customer.phone", "a mobile number has 11 digits and begins with 1")
	ErrSecret   = fail.Define(fail.Invalid, "customer.secret", "a secret has 6 to 72 bytes")
	ErrRole     = fail.Define(fail.Invalid, "customer.role", "there is no such role")
	ErrDenied   = fail.Define(fail.Forbidden, "customer.denied", "login or secret is wrong")
	ErrLocked   = fail.Define(fail.Forbidden, "customer.locked", "too many wrong secrets: wait a quarter of an hour")
	ErrBlocked  = fail.Define(fail.Forbidden, "customer.blocked", "this customer is blocked: ask the service desk")
)

// An Application is what a person says about themselves when joining.
type Application struct {
	Login  string
	Name   string
	Phone  string // 11 digits of a mainland mobile number
	Secret string
	Roles  []Role // empty means Wearer
}

func (a Application) check() error {
	switch {
	case !validLogin(a.Login):
		return ErrLogin
	case !validName(a.Name):
		return ErrName
	case !validPhone(a.Phone):
		return ErrPhone
	case len(a.Secret) < MinSecret || len(a.Secret) > MaxSecret:
		return ErrSecret
	}
	for _, r := range a.Roles {
		if !known(r) {
			return ErrRole
		}
	}
	return nil
}

func known(r Role) bool {
	for _, k := range Roles {
		if k == r {
			return true
		}
	}
	return false
}

func validLogin(s string) bool {
	if len(s) < 2 || len(s) > MaxLogin {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_')
	}) < 0
}

func validName(s string) bool {
	n := utf8.RuneCountInString(s)
	if n < 1 || n > MaxName || !utf8.ValidString(s) || strings.TrimSpace(s) != s {
		return false
	}
	return strings.IndexFunc(s, unicode.IsControl) < 0
}

func validPhone(s string) bool {
	if len(s) != 11 || s[0] != '1' {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }) < 0
}

// MaskPhone shows the first three and the last four of eleven digits, as bills
// in China do; anything else becomes stars only.
func MaskPhone(s string) string {
	if !validPhone(s) {
		return strings.Repeat("*", len(s))
	}
	return s[:3] + "****" + s[7:]
}

func joinRoles(rs []Role) string {
	parts := make([]string, len(rs))
	for i, r := range rs {
		parts[i] = string(r)
	}
	return strings.Join(parts, " ")
}

func splitRoles(s string) []Role {
	var rs []Role
	for _, p := range strings.Fields(s) {
		rs = append(rs, Role(p))
	}
	return rs
}
