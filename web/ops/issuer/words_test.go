package issuer

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"koala/issuing"
	"koala/web"
)

func TestWords(t *testing.T) {
	for _, flaw := range web.Flaws(words) {
		t.Error(flaw)
	}
}

// TestEveryFieldHasAName: what a template may hold is named in both languages.
func TestEveryFieldHasAName(t *testing.T) {
	for _, d := range []any{issuing.BankData{}, issuing.CanteenData{}, issuing.DoorData{}, issuing.CouponData{}} {
		for i := range reflect.TypeOf(d).NumField() {
			tag, _, _ := strings.Cut(reflect.TypeOf(d).Field(i).Tag.Get("json"), ",")
			if f := fields[tag]; f.name.ZH == "" || f.name.EN == "" {
				t.Errorf("%T: field %s has no name", d, tag)
			}
		}
	}
}

func TestDataInWords(t *testing.T) {
	facts := dataFacts(issuing.Template{Data: []byte(`{"merchant":"tea","gives":"percent","value":1250,"ceiling":0,"minimum":2000,"uses":3,"needed":0,"days":30}`)})
	var got []string
	for _, f := range facts {
		got = append(got, f.Name.EN+"="+f.Value)
	}
	want := []string{"Who redeems=tea", "Gives=", "Worth=12.50 %", "From a sale of=¥20.00", "Uses=3", "Valid, days=30"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(dataFacts(issuing.Template{Data: []byte(`[`)})) != 0 {
		t.Error("broken data has facts")
	}
}
