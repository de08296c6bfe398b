package tsm

import (
	"bytes"
	"testing"

	"koala/issuing"
	"koala/money"
	"koala/spec/purse"
)

func FuzzChannelKeep(f *testing.F) {
	f.Add(channelKeep{work: workAll, from: 3, answer: []byte{1}}.bytes())
	f.Fuzz(func(t *testing.T, in []byte) {
		k, err := parseChannelKeep(in)
		if err != nil {
			return
		}
		if again := k.bytes(); !bytes.Equal(again, in) {
			t.Errorf("%X reads as %+v but writes %X", in, k, again)
		}
	})
}

func FuzzCounters(f *testing.F) {
	f.Add(packCounters(issuing.Counters{Balance: money.Fen(5), Online: 1, Offline: 2}))
	f.Fuzz(func(t *testing.T, in []byte) {
		k, err := parseCounters(in)
		if err != nil {
			return
		}
		if again := packCounters(k); !bytes.Equal(again, in) {
			t.Errorf("%X reads as %+v but writes %X", in, k, again)
		}
	})
}

func FuzzSAMData(f *testing.F) {
	f.Add(SAMData{Serial: [10]byte{9}, Terminal: purse.Terminal{1}}.bytes())
	f.Fuzz(func(t *testing.T, in []byte) {
		s, err := parseSAMData(in)
		if err != nil {
			return
		}
		if again := s.bytes(); !bytes.Equal(again, in) {
			t.Errorf("%X reads as %+v but writes %X", in, s, again)
		}
	})
}

// TestEveryPhaseHasWords walks every kind.
func TestEveryPhaseHasWords(t *testing.T) {
	for kind := range walks {
		if kind.Words(false) == string(kind) || kind.Words(true) == kind.Words(false) {
			t.Errorf("kind %s has no words", kind)
		}
		for _, p := range Walk(kind) {
			if p.Words(false) == string(p) || p.Words(true) == p.Words(false) {
				t.Errorf("phase %s has no words", p)
			}
		}
	}
	for r := range reasonWords {
		if r.Words(false) == string(r) || r.Words(true) == r.Words(false) {
			t.Errorf("reason %s has no words", r)
		}
	}
}
