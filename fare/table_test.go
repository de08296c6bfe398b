package fare_test

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"koala/calendar"
	"koala/fare"
)

func sample(t testing.TB) *fare.Table {
	return &fare.Table{
		Station: 10118, Version: 7, From: fare.Day{Date: calendar.Date{Year: 2020, Month: 1, Day: 1}}, Tariff: tariff(t, "2020-06-01"),
		Entries: []fare.Entry{
			{Code: 10107, Early: true, Parts: metro(7_000)},
			{Code: 10118, Same: true, Parts: metro(0)},
			{Code: 10120, Parts: metro(61_000)},
			{Code: 50010, Same: true, Parts: metro(0)},
			{Code: 980001, Parts: []fare.Part{{Region: fare.CapitalAirport, Metres: 20_000}, {Region: fare.Network, Metres: 9_000}}},
		},
	}
}

func pack(t testing.TB, tb *fare.Table) []byte {
	t.Helper()
	out, err := tb.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestTableRoundTrip(t *testing.T) {
	tb := sample(t)
	again, err := fare.ParseTable(pack(t, tb))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(tb, again) {
		t.Errorf("reads back as\n%+v, want\n%+v", again, tb)
	}
}

func TestTablePrices(t *testing.T) {
	tb, in := sample(t), at("2020-06-01 08:00")
	for _, tt := range []struct {
		name  string
		entry fare.Code
		fen   int64
		want  error
	}{
		{"near", 10107, 400, nil},
		{"from the airport", 980001, 2900, nil},
		{"same station, other line's code", 50010, 300, nil},
		{"no entry on the card: farthest metro ride", 0, 800, nil},
		{"unknown station", 99, 0, fare.ErrNoStation},
	} {
		q, err := tb.Price(fare.Tap{Entry: tt.entry, Entered: in, Left: at("2020-06-01 08:40")})
		if !errors.Is(err, tt.want) || err == nil && q.Fen.Minor() != tt.fen {
			t.Errorf("%s: %v, %v; want %d, %v", tt.name, q.Fen, err, tt.fen, tt.want)
		}
	}
	for entry, fen := range map[fare.Code]int64{10107: 300, 980001: 2500} { // an airport's line has a lowest fare of its own
		if q, err := tb.PriceMissingExit(entry, in, in.AddDate(0, 0, 1)); err != nil || q.Fen.Minor() != fen {
			t.Errorf("missing exit from %s: %v, %v", entry, q, err)
		}
	}
}

func TestParseTableRefuses(t *testing.T) {
	good := pack(t, sample(t))
	for _, tt := range []struct {
		name string
		in   []byte
	}{
		{"nothing", nil},
		{"other magic", append([]byte("KFT2"), good[4:]...)},
		{"a byte short", good[:len(good)-1]},
		{"a byte more", append(bytes.Clone(good), 0)},
		{"huge", make([]byte, fare.MaxTable+1)},
	} {
		if _, err := fare.ParseTable(tt.in); !errors.Is(err, fare.ErrTable) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	for name, spoil := range map[string]func(*fare.Table){
		"no own station": func(tb *fare.Table) { tb.Entries = tb.Entries[:1] },
		"disorder":       func(tb *fare.Table) { tb.Entries[0], tb.Entries[1] = tb.Entries[1], tb.Entries[0] },
		"unknown region": func(tb *fare.Table) { tb.Entries[0].Parts[0].Region = "moon" },
		"negative":       func(tb *fare.Table) { tb.Entries[0].Parts[0].Metres = -1 },
		"falling tiers": func(tb *fare.Table) {
			tb.Tariff.Regions = []fare.RegionRule{{Region: "network", Tiers: []fare.Tier{{UptoM: 9, Fen: 5}, {Fen: 4}}}}
		},
		"no day":           func(tb *fare.Table) { tb.From = fare.Day{} },
		"unbounded tariff": func(tb *fare.Table) { tb.Tariff.Stay.Fen = 1 << 40 },
	} {
		tb := sample(t)
		spoil(tb)
		if _, err := tb.AppendBinary(nil); !errors.Is(err, fare.ErrTable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseTable(f *testing.F) {
	f.Add(pack(f, sample(f)))
	f.Add([]byte("KFT\x01"))
	f.Fuzz(func(t *testing.T, in []byte) {
		tb, err := fare.ParseTable(in)
		if err != nil {
			return
		}
		if again := pack(t, tb); !bytes.Equal(again, in) {
			t.Errorf("%X reads, but writes %X", in, again)
		}
	})
}

func FuzzParseTariffs(f *testing.F) {
	f.Add([]byte(`[{"id":"x","from":"2020-01-01","regions":[{"region":"a","tiers":[{"fen":1}]}]}]`))
	f.Fuzz(func(t *testing.T, in []byte) {
		all, err := fare.ParseTariffs(in)
		if err != nil {
			return
		}
		for _, tf := range all {
			for _, r := range tf.Regions {
				if _, err := fare.Price(tf, fare.Ride{Parts: []fare.Part{{Region: r.Region, Metres: 100_000}}}); err != nil {
					t.Errorf("accepted, but does not price: %v", err)
				}
			}
		}
	})
}
