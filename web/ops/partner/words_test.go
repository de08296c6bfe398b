package partner

import (
	"testing"

	"koala/web"
)

func TestWords(t *testing.T) {
	for _, flaw := range web.Flaws(words) {
		t.Error(flaw)
	}
}

func TestBriefPath(t *testing.T) {
	for in, want := range map[string]string{
		"/v1/card-templates": "/v1/card-templates",
		"/v1/card-templates/ct_01m8reb0pa0000q3gfc8cw3c/submit": "/v1/card-templates/ct_01m8r…cw3c/submit",
		"": "",
	} {
		if got := briefPath(in); got != want {
			t.Errorf("%s shows as %s, want %s", in, got, want)
		}
	}
}
