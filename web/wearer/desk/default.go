package desk

import (
	"koala/internal/db"
	"koala/tsm"
	"koala/web/wearer"
)

func markDefault(q *db.Query, who string, cards []wearer.Card) error { return nil }

func bandOf(q db.Reader, who string) (string, error) {
	bands, err := tsm.BandsOf(q, who)
	if err != nil {
		return "", err
	}
	if len(bands) == 0 {
		return "", tsm.ErrBand
	}
	return bands[len(bands)-1].ID, nil
}
