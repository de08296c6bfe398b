package koala_test

import (
	"strings"
	"testing"

	_ "koala/app"
	_ "koala/city"
	"koala/web"
)

// TestEveryFailureSpeaksChinese: what a page may have to say to a person is in
// both languages.
func TestEveryFailureSpeaksChinese(t *testing.T) {
	for _, code := range web.Untranslated() {
		if !strings.HasPrefix(code, "failtest.") {
			t.Errorf("%s has no Chinese text in web's catalog of failures", code)
		}
	}
}
