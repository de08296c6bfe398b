package home

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// from is a request of an address.
func from(remote string) *http.Request { return &http.Request{RemoteAddr: remote} }

// TestLimiter: whatever comes when, nobody is let through more often than his
// bound allows in any span of time, all together not more often than theirs, who
// has waited long enough is let through, and only so many are remembered.
func TestLimiter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, now := new(limiter), time.Date(2016, 9, 6, 4, 0, 0, 0, time.UTC)
		var all []time.Time
		each := map[string][]time.Time{}
		people := rapid.SampledFrom([]int{1, 3, 40, 2000}).Draw(t, "people")
		pace := rapid.SampledFrom([]time.Duration{time.Millisecond, 100 * time.Millisecond, time.Second, 10 * time.Second}).Draw(t, "pace")
		for range rapid.IntRange(1, 400).Draw(t, "requests") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(2*pace)).Draw(t, "wait")))
			n := rapid.IntRange(0, people-1).Draw(t, "who")
			who := fmt.Sprintf("10.%d.%d.7:1", n/250, n%250)
			asked := each[who]
			fresh := len(asked) == 0 || now.Sub(asked[len(asked)-1]) >= askEvery
			quiet := len(all) == 0 || now.Sub(all[len(all)-1]) >= allEvery
			if l.may(from(who), now) {
				each[who], all = append(asked, now), append(all, now)
			} else if fresh && quiet {
				t.Fatalf("%s waited and is refused at %v", who, now)
			}
		}
		for who, list := range each {
			within(t, who, list, askBurst, askEvery)
		}
		within(t, "all", all, allBurst, allEvery)
	})
}

// within checks every span between two that were let through.
func within(t *rapid.T, who string, list []time.Time, burst int, every time.Duration) {
	for i := range list {
		for j := i; j < len(list); j++ {
			if n, most := j-i+1, burst+int(list[j].Sub(list[i])/every); n > most {
				t.Fatalf("%s: %d within %v, at most %d may be", who, n, list[j].Sub(list[i]), most)
			}
		}
	}
}

func TestLimiterTakesFromBothOrNeither(t *testing.T) {
	l, now := new(limiter), time.Unix(0, 0)
	let := 0
	for range 10 * allBurst {
		if l.may(from("192.0.2.1:5"), now) {
			let++
		}
	}
	if let != askBurst {
		t.Errorf("%d are let through at once", let)
	}
	for i := range allBurst - askBurst {
		if !l.may(from(fmt.Sprintf("192.0.3.%d:5", i)), now) {
			t.Fatalf("number %d of the others pays for the first", i)
		}
	}
	if l.may(from("192.0.4.1:5"), now) || !l.may(from("192.0.4.1:5"), now.Add(allEvery)) {
		t.Error("the bound of all")
	}
}

// TestLimiterForgets: people who came and went take no memory.
func TestLimiterForgets(t *testing.T) {
	l, now := new(limiter), time.Unix(0, 0)
	for i := range 20 * maxAskers {
		now = now.Add(allEvery)
		if !l.may(from(fmt.Sprintf("10.%d.%d.1:5", i/250, i%250)), now) {
			t.Fatalf("number %d is refused", i)
		}
		if len(l.each) > maxAskers {
			t.Fatalf("%d are remembered", len(l.each))
		}
	}
}

func TestAskersAreNetworks(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1:1", "192.0.2.1:2", true}, {"192.0.2.1:1", "192.0.2.2:1", false}, {"[::ffff:192.0.2.1]:1", "192.0.2.1:1", true},
		{"[2001:db8:0:1::1]:1", "[2001:db8:0:1:2:3:4:5]:1", true}, {"[2001:db8:0:1::1]:1", "[2001:db8:0:2::1]:1", false},
		{"[fe80::1%eth0]:1", "[fe80::2%eth1]:1", true}, {"device", "", true},
	} {
		if (askerAt(tt.a) == askerAt(tt.b)) != tt.same {
			t.Errorf("%s is %v, %s is %v", tt.a, askerAt(tt.a), tt.b, askerAt(tt.b))
		}
	}
}

func TestLimiterManyAtOnce(t *testing.T) {
	l, now := new(limiter), time.Unix(0, 0)
	var let sync.Map
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			if l.may(from("192.0.2.1:5"), now) {
				let.Store(i, true)
			}
		})
	}
	all.Wait()
	n := 0
	let.Range(func(any, any) bool { n++; return true })
	if n != askBurst {
		t.Errorf("%d are let through", n)
	}
}
