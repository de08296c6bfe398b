package clock_test

import (
	"bytes"
	"io"
	"testing"
	"time"

	"koala/internal/clock"
)

func TestVirtualNeverGoesBack(t *testing.T) {
	start := time.Date(2015, 9, 16, 0, 0, 0, 0, time.UTC)
	c := clock.NewVirtual(start)
	c.Advance(time.Hour)
	c.Set(start)
	if want := start.Add(time.Hour); !c.Now().Equal(want) {
		t.Errorf("clock stands at %v, want %v", c.Now(), want)
	}
}

func TestRandomIsItsSeed(t *testing.T) {
	read := func(seed uint64) []byte {
		b := make([]byte, 64)
		if _, err := io.ReadFull(clock.Random(seed), b); err != nil {
			t.Fatal(err)
		}
		return b
	}
	if !bytes.Equal(read(7), read(7)) {
		t.Error("the same seed gives other bytes")
	}
	if bytes.Equal(read(7), read(8)) {
		t.Error("another seed gives the same bytes")
	}
}

func TestScaledDoesNotJumpWhenTheSpeedChanges(t *testing.T) {
	c := clock.NewScaled(time.Date(2015, 9, 16, 8, 0, 0, 0, time.UTC), 1e6)
	before := c.Now()
	c.SetSpeed(0)
	stopped := c.Now()
	if stopped.Before(before) || !c.Now().Equal(stopped) {
		t.Errorf("clock went from %v to %v to %v", before, stopped, c.Now())
	}
}

func TestScaledJumpsOn(t *testing.T) {
	start := time.Date(2015, 9, 16, 8, 0, 0, 0, time.UTC)
	c := clock.NewScaled(start, 0)
	c.Jump(start.Add(time.Hour))
	c.Jump(start)
	if want := start.Add(time.Hour); !c.Now().Equal(want) {
		t.Errorf("clock stands at %v, want %v", c.Now(), want)
	}
}
