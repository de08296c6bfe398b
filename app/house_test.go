package app_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"koala/app"
	"koala/internal/db"
	"koala/internal/fail"
	"koala/ledger"
)

// TestOpenFreshAndAgain: a fresh folder becomes a house that only its owner
// can read; opened again it is the same house.
func TestOpenFreshAndAgain(t *testing.T) {
	each(t, func(t *testing.T, cfg app.Config) {
		h := open(t, cfg)
		p := green(t, h)
		keys, token := keysOf(t, h), tokenOf(t, h)
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(cfg.Data, "*"))
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		for _, f := range append(files, cfg.Data) {
			if strings.HasSuffix(f, ".lock") {
				continue // empty for ever
			}
			if info, err := os.Stat(f); err != nil || info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s: %v, %v", f, info.Mode(), err)
			}
		}
		h = open(t, cfg)
		if q := green(t, h); q.Hash != p.Hash || q.Entries != p.Entries {
			t.Errorf("first %+v, then %+v", p, q)
		}
		if again := keysOf(t, h); again != keys {
			t.Errorf("keys were %s, are %s", keys, again)
		}
		if err := h.CheckDevice(ctx, "band", "b", token); err != nil {
			t.Errorf("a token from before: %v", err)
		}
	})
}

func keysOf(t *testing.T, h *app.House) string {
	t.Helper()
	var b strings.Builder
	list, err := h.Keys.List(ctx)
	if err != nil || len(list) == 0 {
		t.Fatalf("%d keys, %v", len(list), err)
	}
	for _, k := range list {
		b.WriteString(k.Label + " " + string(k.KCV[:]) + "\n")
	}
	return b.String()
}

func tokenOf(t *testing.T, h *app.House) string {
	t.Helper()
	token, err := h.DeviceToken(ctx, "band", "b")
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// TestRefusesToOpen: each row makes a house that was lived in unusable; opening
// it says what is wrong, where, and what to do, and leaves every file as it is.
func TestRefusesToOpen(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, cfg *app.Config)
		code  string
		says  []string
	}{
		{"another house's key file", func(t *testing.T, cfg *app.Config) {
			other := config(t)
			open(t, other).Close()
			cfg.KeyFile = filepath.Join(other.Data, "koala.key")
		}, "hsm.wrong_key_file", []string{"koala.key", "name the right file"}},
		{"no key file", func(t *testing.T, cfg *app.Config) {
			remove(t, filepath.Join(cfg.Data, "koala.key"))
		}, "hsm.no_key_file", []string{"koala.key", "put the file back"}},
		{"a damaged key file", func(t *testing.T, cfg *app.Config) {
			change(t, filepath.Join(cfg.Data, "koala.key"), func(b []byte) []byte { b[len(b)-30] ^= 1; return b })
		}, "hsm.key_file", []string{"koala.key", "the key"}},
		{"an empty key file", func(t *testing.T, cfg *app.Config) {
			change(t, filepath.Join(cfg.Data, "koala.key"), func([]byte) []byte { return nil })
		}, "hsm.key_file", []string{"koala.key", "three lines"}},
		{"a key file for all to read", func(t *testing.T, cfg *app.Config) {
			if err := os.Chmod(filepath.Join(cfg.Data, "koala.key"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, "hsm.readable_key_file", []string{"koala.key", "chmod 600"}},
		{"a key file that is a folder", func(t *testing.T, cfg *app.Config) {
			cfg.KeyFile = t.TempDir()
		}, "hsm.key_file", []string{"/002", "not a file"}},
		{"not a database", func(t *testing.T, cfg *app.Config) {
			change(t, dataFile(*cfg), func(b []byte) []byte { return []byte(strings.Repeat("not a database ", 500)) })
		}, "db.corrupt", []string{"koala.db", "restore a backup"}},
		{"a damaged page", func(t *testing.T, cfg *app.Config) {
			change(t, dataFile(*cfg), func(b []byte) []byte { clear(b[4096 : 20*4096]); return b })
		}, "db.corrupt", []string{"koala.db", "restore a backup"}},
		{"a truncated file", func(t *testing.T, cfg *app.Config) {
			change(t, dataFile(*cfg), func(b []byte) []byte { return b[:len(b)/3] })
		}, "db.corrupt", []string{"koala.db", "restore a backup"}},
		{"a folder in place of the data file", func(t *testing.T, cfg *app.Config) {
			cfg.DB = t.TempDir()
		}, "db.cannot_open", []string{"/002", "cannot be opened"}},
		{"a step of a newer koala", func(t *testing.T, cfg *app.Config) {
			alter(t, *cfg, `INSERT INTO db_schema (owner, step, sha256, at) VALUES ('transit', 99, 'x', 0)`)
		}, "db.newer", []string{"koala.db", "transit", "newer koala"}},
		{"a newer ledger", func(t *testing.T, cfg *app.Config) {
			alter(t, *cfg, `INSERT INTO db_schema (owner, step, sha256, at) VALUES ('ledger', 2, 'x', 0)`)
		}, "db.newer", []string{"koala.db", "ledger", "newer koala"}},
		{"a step that reads otherwise", func(t *testing.T, cfg *app.Config) {
			alter(t, *cfg, `UPDATE db_schema SET sha256 = 'x' WHERE owner = 'tsm'`)
		}, "db.changed_step", []string{"koala.db", "tsm", "reads otherwise"}},
		{"a changed journal", func(t *testing.T, cfg *app.Config) {
			alter(t, *cfg, flipped("ledger_journal", "blob", "seq = (SELECT MAX(seq) FROM ledger_journal)"))
		}, "ledger.damaged", []string{"batch"}},
		{"a journal without its end", func(t *testing.T, cfg *app.Config) {
			alter(t, *cfg, `DELETE FROM ledger_journal WHERE seq = (SELECT MAX(seq) FROM ledger_journal)`)
		}, "ledger.damaged", []string{"book"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t)
			w := newTown(t, cfg)
			w.issue("band-1")
			w.h.Close()
			tt.spoil(t, &cfg)
			refused(t, cfg, tt.code, tt.says)
		})
	}
}

func dataFile(cfg app.Config) string { return filepath.Join(cfg.Data, "koala.db") }

func remove(t *testing.T, file string) {
	t.Helper()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
}

func change(t *testing.T, file string, f func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, f(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

func alter(t *testing.T, cfg app.Config, sql string) {
	t.Helper()
	s, err := db.Open(ctx, db.Config{URL: dataFile(cfg)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Write(ctx, func(tx *db.Tx) error { return changes(tx, sql) }); err != nil {
		t.Fatal(err)
	}
}

// refused opens a house that must not open, twice: the first try must not make
// the second succeed, nor change a file.
func refused(t *testing.T, cfg app.Config, code string, says []string) {
	t.Helper()
	before := folder(t, cfg.Data)
	for range 2 {
		h, err := app.New(ctx, cfg)
		if err == nil {
			h.Close()
			t.Fatal("it opened")
		}
		if f := fail.Of(err); f.Code != code {
			t.Fatalf("%s: %v", f.Code, err)
		}
		for _, s := range says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%q does not say %q", err, s)
			}
		}
	}
	for name, b := range folder(t, cfg.Data) {
		if before[name] != b {
			t.Errorf("%s was changed", name)
		}
		delete(before, name)
	}
	for name := range before {
		t.Errorf("%s is gone", name)
	}
}

// folder reads the files of a data folder that carry data: not the locks, and
// not an empty log or the memory that SQLite shares between processes.
func folder(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if ext := filepath.Ext(f.Name()); ext == ".lock" || strings.HasSuffix(ext, "-shm") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > 0 {
			out[f.Name()] = string(b)
		}
	}
	return out
}

// TestHealedHouseOpens: with the right file back, the house goes on.
func TestHealedHouseOpens(t *testing.T) {
	cfg := config(t)
	h := open(t, cfg)
	p := green(t, h)
	h.Close()
	key := filepath.Join(cfg.Data, "koala.key")
	kept, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	remove(t, key)
	refused(t, cfg, "hsm.no_key_file", nil)
	if err := os.WriteFile(key, kept, 0o600); err != nil {
		t.Fatal(err)
	}
	if q := green(t, open(t, cfg)); q.Hash != p.Hash {
		t.Errorf("%+v, then %+v", p, q)
	}
}

// TestDamagedViewsNameTheirFile: the views lie in a file that is not
// flushed before every answer, so a power failure may damage it. They can be
// made again; the error says that.
func TestDamagedViewsNameTheirFile(t *testing.T) {
	cfg := config(t)
	w, _ := lived(t, cfg)
	p := green(t, w.h)
	w.h.Close()
	views := dataFile(cfg) + ".views"
	change(t, views, func(b []byte) []byte { return []byte(strings.Repeat("not a database ", 500)) })
	h, err := app.New(ctx, cfg)
	if err != nil {
		if !strings.Contains(err.Error(), "koala.db.views") || !errors.Is(err, db.ErrCorrupt) {
			t.Fatal(err)
		}
		for _, end := range []string{"", "-wal", "-shm"} {
			if err := os.Remove(views + end); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
		}
		h = open(t, cfg)
	}
	defer h.Close()
	if q := green(t, h); q.Hash != p.Hash {
		t.Errorf("%+v, then %+v", p, q)
	}
}

func TestInUse(t *testing.T) {
	cfg := config(t)
	h := open(t, cfg)
	_, err := app.New(ctx, cfg)
	if fail.Of(err) != db.ErrInUse || !strings.Contains(err.Error(), "koala.db") {
		t.Errorf("a second house: %v", err)
	}
	green(t, h)
}

func TestUnusableConfig(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		cfg  app.Config
		code string
		says string
	}{
		{"a file as folder", app.Config{Data: file}, "app.config", file},
		{"a folder in a file", app.Config{Data: file + "/x"}, "app.config", file},
		{"a folder that cannot be made", app.Config{Data: "/proc/koala"}, "app.config", "/proc/koala"},
		{"a folder that cannot be written", app.Config{Data: "/proc/self"}, "db.cannot_open", "/proc/self/koala.db"},
		{"chunk below zero", app.Config{Data: t.TempDir(), Chunk: -1}, "app.config", "-1"},
		{"key file in no folder", app.Config{Data: t.TempDir(), KeyFile: "/nowhere/koala.key"}, "hsm.key_file", "/nowhere/koala.key"},
		{"data file in no folder", app.Config{Data: t.TempDir(), DB: "/nowhere/koala.db"}, "db.cannot_open", "/nowhere/koala.db"},
		{"another kind of database", app.Config{Data: t.TempDir(), DB: "mysql://localhost/koala"}, "db.cannot_open", "mysql"},
		{"a server that is not there", app.Config{Data: t.TempDir(), DB: "postgres://nobody@127.0.0.1:1/koala"}, "db.unreachable", "127.0.0.1"},
		{"a URL that is none", app.Config{Data: t.TempDir(), DB: "postgres://%zz"}, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, err := app.New(ctx, tt.cfg)
			if err == nil {
				h.Close()
				t.Fatal("it opened")
			}
			if f := fail.Of(err); tt.code != "" && f.Code != tt.code || f == fail.ErrUnknown {
				t.Errorf("%s: %v", f.Code, err)
			}
			if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%q does not say %q", err, tt.says)
			}
		})
	}
}

// TestConfigErrorHidesThePassword: what is printed at start may end in a log.
func TestConfigErrorHidesThePassword(t *testing.T) {
	_, err := app.New(ctx, app.Config{Data: t.TempDir(), DB: "postgres://koala:opensesame@127.0.0.1:1/koala"})
	if err == nil || strings.Contains(err.Error(), "opensesame") {
		t.Errorf("%v", err)
	}
}

// TestBrokenCommitsWhileOpening: a commit that fails, or whose answer is lost,
// at any point of the first start: the next start finishes. Every key is a
// commit, so every second one is broken, and the two ways of it take turns.
func TestBrokenCommitsWhileOpening(t *testing.T) {
	t.Parallel()
	for n := 0; n < 120; n += 2 {
		cfg := config(t)
		b := &breaks{at: n, after: n%4 == 2}
		cfg.Faults, cfg.Inline = b, true
		h, err := app.New(ctx, cfg)
		if b.at >= 0 { // there are no more commits
			if err != nil {
				t.Fatal(err)
			}
			h.Close()
			if n < 8 {
				t.Errorf("only %d commits in a first start", n)
			}
			return
		}
		if err == nil {
			h.Close()
		} else if k := fail.Of(err).Kind; k != fail.Busy {
			t.Errorf("commit %d: %v", n, err)
		}
		cfg.Faults = nil
		green(t, open(t, cfg))
	}
	t.Error("a first start has no end")
}

// breaks fails one commit.
type breaks struct {
	at    int
	after bool
	now   bool
}

var errBroken = errors.New("broken on purpose")

func (b *breaks) BeforeCommit(int64) error {
	b.at--
	if b.at != -1 {
		return nil
	}
	if b.now = b.after; b.now {
		return nil
	}
	return errBroken
}

func (b *breaks) AfterCommit(int64) error {
	if !b.now {
		return nil
	}
	b.now = false
	return errBroken
}

// TestCloseAnswersWhatIsUnderWay: every unit is answered, as done or as
// refused, and none after that.
func TestCloseAnswersWhatIsUnderWay(t *testing.T) {
	h := open(t, config(t))
	done := make(chan error, 64)
	for range cap(done) {
		go func() {
			done <- h.Store.Write(ctx, func(tx *db.Tx) error {
				return ledger.OpenAccount(tx, ledger.Account{ID: ledger.AccountID(tx.NewID("acct")), Code: "2010", Name: "x", Currency: "CNY"})
			})
		}()
	}
	time.Sleep(time.Millisecond)
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	for range cap(done) {
		if err := <-done; err != nil && !errors.Is(err, db.ErrClosed) {
			t.Error(err)
		}
	}
	if err := h.Store.Write(ctx, func(*db.Tx) error { return nil }); !errors.Is(err, db.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
