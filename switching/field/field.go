// Package field writes what some fields of messages carry. It holds no state.
package field

import (
	"fmt"
	"strings"

	"koala/money"
)

// most is what 12 digits hold, fen.
const most = 999_999_999_999

// Balance is field 54: account type 10, amount type 02, currency 156, sign C or D,
// 12 digits of fen. A balance beyond them is shown as the most that they hold.
func Balance(a money.Amount) string {
	sign := 'C'
	if a.Sign() < 0 {
		sign, a = 'D', a.Neg()
	}
	return fmt.Sprintf("1002156%c%012d", sign, min(a.Minor(), most))
}

// Scheme names the scheme of a foreign card by the beginning of its number
// (ISO/IEC 7812-1).
func Scheme(number string) string {
	switch {
	case strings.HasPrefix(number, "35"):
		return "JCB"
	case strings.HasPrefix(number, "3"):
		return "AMX"
	case strings.HasPrefix(number, "4"):
		return "VIS"
	}
	return "MCC"
}
