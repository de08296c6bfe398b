package merchant

// A Risk is how far the house trusts a merchant: A most, D least.
type Risk string

// The levels.
const (
	RiskA Risk = "A" // years of trading without a case
	RiskB Risk = "B" // papers complete, an enterprise
	RiskC Risk = "C" // new, or a person
	RiskD Risk = "D" // under watch
)

// riskAtStart is the level of a new merchant (house rule).
func riskAtStart(f Form) Risk {
	if f == Enterprise {
		return RiskB
	}
	return RiskC
}
