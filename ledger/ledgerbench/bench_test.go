package ledgerbench_test

import (
	"testing"

	"koala/internal/db/dbtest"
	"koala/ledger/ledgerbench"
)

// TestRun runs the load for a moment; what it measures is nobody's business
// here.
func TestRun(t *testing.T) {
	for _, place := range []func(testing.TB) string{func(t testing.TB) string { return t.TempDir() }, dbtest.Postgres} {
		t.Run("store", func(t *testing.T) {
			res, err := ledgerbench.Run(t.Context(), place(t), 8, 0.2, 0.2)
			if err != nil || res.Ops == 0 || res.Replay == 0 || res.P50 > res.P99 || res.Commits == 0 {
				t.Errorf("%+v, %v", res, err)
			}
		})
	}
}
