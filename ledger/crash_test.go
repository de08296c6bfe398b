package ledger_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/ledger"
	"koala/money"
)

// crashStore names, in a child process, the store to load until it is killed.
const crashStore = "KOALA_LEDGER_CRASH_STORE"

// TestMain turns the test binary into the child when it is asked to.
func TestMain(m *testing.M) {
	if url := os.Getenv(crashStore); url != "" {
		child(url, os.Getenv(crashStore+"_RUN"))
		return
	}
	os.Exit(m.Run())
}

// child loads the book with several callers and writes each answer to its
// output, after the commit. It ends by being killed.
func child(url, run string) {
	ctx := context.Background()
	fatal := func(err error) {
		if err != nil {
			fmt.Println("child failed:", err)
			os.Exit(1)
		}
	}
	store, err := db.Open(ctx, db.Config{URL: url})
	fatal(err)
	_, err = ledger.Open(ctx, store, ledger.Config{Window: 256, SnapshotEvery: 4_000})
	fatal(err)
	fatal(store.Write(ctx, func(tx *db.Tx) error {
		for _, a := range []ledger.Account{bank, wallet("ann"), shop} {
			if err := ledger.OpenAccount(tx, a); err != nil {
				return err
			}
		}
		return nil
	}))
	var out sync.Mutex
	for c := range 4 {
		go func() {
			for n := 0; ; n++ {
				ref := fmt.Sprintf("%s:%d:%d", run, c, n)
				fatal(store.Write(ctx, func(tx *db.Tx) error { return crashUnit(tx, ref) }))
				out.Lock()
				fmt.Println("answered", ref)
				out.Unlock()
			}
		}()
	}
	select {}
}

// crashUnit moves 3 fen to ann and 1 on to the shop by a hold: three records
// and more that stand or fall together.
func crashUnit(tx *db.Tx, ref string) error {
	if _, err := ledger.Post(tx, ledger.Move(ref, "bank", "ann", money.Fen(3))); err != nil {
		return err
	}
	if _, err := ledger.Authorise(tx, ledger.Hold{Ref: ref + ":h", From: "ann", To: "shop", Amount: money.Fen(2)}); err != nil {
		return err
	}
	_, err := ledger.Capture(tx, ref+":h", ref+":c", money.Fen(1), true)
	return err
}

// kill starts a child, lets it live for a while and kills it. It returns what
// the child said it had answered.
func kill(t *testing.T, url, run string, life time.Duration) (answered []string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashStore+"="+url, crashStore+"_RUN="+run)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	began := make(chan struct{})
	go func() { // its life begins with the first answer
		<-began
		time.Sleep(life)
		_ = cmd.Process.Kill()
	}()
	var once sync.Once
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		ref, ok := strings.CutPrefix(lines.Text(), "answered ")
		if !ok {
			t.Errorf("child: %s", lines.Text())
			continue
		}
		once.Do(func() { close(began) })
		answered = append(answered, ref)
	}
	once.Do(func() { close(began) })
	_ = cmd.Wait() // killed
	return answered
}

// crash kills a loaded process many times at random moments and checks after
// each that everything answered is there, all of it or nothing, and once.
func crash(t *testing.T, url string, kills int) {
	chance := clock.Random(uint64(kills))
	answered := 0
	for run := range kills {
		var dice [1]byte
		if _, err := chance.Read(dice[:]); err != nil {
			t.Fatal(err)
		}
		refs := kill(t, url, fmt.Sprint(run), time.Duration(40+int(dice[0]))*time.Millisecond)
		answered += len(refs)
		h := newHouse(t, db.Config{URL: url, Rebuildable: true}, ledger.Config{Inline: true, Window: 256})
		if err := h.book.Project(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, ref := range refs {
			for _, part := range []string{"", ":h", ":c"} {
				if _, err := h.book.Entry(t.Context(), ref+part); err != nil {
					t.Fatalf("kill %d: answered, but not there: %v", run, err)
				}
			}
		}
		if len(refs) > 0 { // asking again books nothing
			before := h.fen("ann")
			h.must(func(tx *db.Tx) error { return crashUnit(tx, refs[len(refs)-1]) })
			if got := h.fen("ann"); got != before {
				t.Fatalf("kill %d: repeating an answered unit moved %v to %v", run, before, got)
			}
		}
		ann, paid := h.fen("ann"), h.fen("shop")
		if ann[0] != 2*paid[0] || ann[1] != 0 {
			t.Fatalf("kill %d: ann has %v, the shop %v: half a unit", run, ann, paid)
		}
		if int(paid[0]) < answered {
			t.Fatalf("kill %d: %d units are there, %d were answered", run, paid[0], answered)
		}
		if run%10 == 9 || run == kills-1 {
			h.green()
		}
		h.close()
	}
	if answered == 0 {
		t.Error("no child answered anything")
	}
	t.Logf("%d kills, %d units answered", kills, answered)
}

func TestCrash(t *testing.T) {
	crash(t, filepath.Join(t.TempDir(), "koala.db"), 50)
}

func TestCrashOnPostgres(t *testing.T) {
	crash(t, dbtest.Postgres(t), 12)
}
