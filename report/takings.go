package report

import (
	"fmt"
	"time"

	"koala/internal/db"
)

// A Taking sums up transactions of a shop that are alike.
type Taking struct {
	Kind, State string // of the switch
	Class       string // fee class of the card
	Host        string // of the issuer; empty: the house's bank
	Hour        int    // of the Beijing day; of a span of several days the hours fall together
	Round       bool   // of whole hundreds of yuan
	Count, Fen  int64
}

// Takings sums up what the switch has of a shop from one moment to before
// another.
func Takings(q db.Reader, shop string, from, to time.Time) (out []Taking, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var t Taking
		var round int64
		err := scan(&t.Kind, &t.State, &t.Class, &t.Host, &t.Hour, &round, &t.Count, &t.Fen)
		t.Round = round == 1
		out = append(out, t)
		return err
	}, `SELECT kind, state, class, host, hour, round, COUNT(*), CAST(SUM(due) AS BIGINT) FROM
		(SELECT kind, state, class, host, due, (at + 28800000000) / 3600000000 % 24 AS hour, CASE WHEN due % 10000 = 0 THEN 1 ELSE 0 END AS round
			FROM switching_place p JOIN switching_txn x ON x.tid = p.tid WHERE p.shop = $1 AND x.shop = $1 AND at >= $2 AND at < $3) t
		GROUP BY kind, state, class, host, hour, round ORDER BY kind, state, class, host, hour, round`, shop, from.UnixMicro(), to.UnixMicro())
	if err != nil {
		return nil, fmt.Errorf("takings of %s: %w", shop, err)
	}
	return out, nil
}
