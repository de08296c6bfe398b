package city

import (
	"context"
	"encoding/json"
	"os"
	"strconv"
	"testing"
)

func TestRunProbe(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("PEOPLE"))
	seed, _ := strconv.Atoi(os.Getenv("SEED"))
	r, err := Run(context.Background(), Config{People: n, Seed: uint64(seed), Faults: Faults(os.Getenv("FAULTS"))})
	out, _ := json.Marshal(r)
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}
