package home

import "koala/web"

func figures(t Totals) []web.Figure {
	books := web.Figure{Name: words.Entries, Value: web.Number(t.Entries), Live: "entries", Icon: "scale"}
	books.Tone, books.DeltaText = web.Good, words.Balanced
	if !t.Balanced {
		books.Tone, books.DeltaText = web.Bad, words.Unbalanced
	}
	return []web.Figure{
		{Name: words.Taps, Value: web.Number(t.Taps), Live: "taps", Icon: "nfc", Spark: t.SparkTaps},
		{Name: words.Riding, Value: web.Number(t.Riding), Live: "riding", Icon: "train-front"},
		{Name: words.Fares, Value: web.Yuan(t.FareFen), Live: "fares", Money: true, Icon: "ticket"},
		{Name: words.TopUps, Value: web.Number(t.TopUps), Live: "topups", Icon: "wallet"},
		{Name: words.Moved, Value: web.Yuan(t.MovedFen), Live: "moved", Money: true, Icon: "coins", Spark: t.SparkMoved},
		books,
	}
}

func speedWord(s int) web.Text {
	if s == 0 {
		return words.Stand
	}
	return words.Times.F(s)
}
