// Package pan holds primary account numbers (ISO/IEC 7812-1): their length, the
// check digit, and a type that masks itself when it is printed.
package pan

import "errors"

// Lengths of a PAN in digits (ISO/IEC 7812-1).
const (
	MinLen = 8
	MaxLen = 19
)

// ErrPAN says that a text is no PAN: not 8 to 19 digits, or a wrong check digit.
var ErrPAN = errors.New("pan: not a primary account number")

// A PAN is a card number, digits only. It prints masked: write string(p) only
// where the digits themselves are needed.
type PAN string

// Parse takes a number whose check digit is right.
func Parse(s string) (PAN, error) {
	if len(s) < MinLen || len(s) > MaxLen || !digits(s) || checkDigit(s[:len(s)-1]) != s[len(s)-1] {
		return "", ErrPAN
	}
	return PAN(s), nil
}

// Complete adds the check digit to the digits before it.
func Complete(body string) (PAN, error) {
	if len(body) < MinLen-1 || len(body) >= MaxLen || !digits(body) {
		return "", ErrPAN
	}
	return PAN(body + string(checkDigit(body))), nil
}

// checkDigit is the Luhn digit (ISO/IEC 7812-1, annex B): from the right every
// second digit counts double, with the digits of the product summed.
func checkDigit(body string) byte {
	sum := 0
	for i := range len(body) {
		d := int(body[len(body)-1-i] - '0')
		if i%2 == 0 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return byte('0' + (10-sum%10)%10)
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// Masked shows the first six and the last four digits, what may be shown of a
// PAN.
func (p PAN) Masked() string {
	if len(p) < 12 {
		return "****"
	}
	return string(p[:6]) + "****" + string(p[len(p)-4:])
}

// Tail is the last four digits.
func (p PAN) Tail() string { return string(p[max(len(p)-4, 0):]) }

// String is Masked.
func (p PAN) String() string { return p.Masked() }

// GoString is Masked.
func (p PAN) GoString() string { return p.Masked() }
