package merkle_test

import (
	"encoding/hex"
	"fmt"
	"testing"

	"koala/internal/merkle"
)

// The trees that google/certificate-transparency tests with
// (merkletree/merkle_tree_test.cc), roots for the first 0 to 8 leaves.
var (
	leaves = []string{"", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"}
	roots  = []string{
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
		"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
		"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
		"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
		"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
		"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
		"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
	}
)

func TestPublishedTrees(t *testing.T) {
	for n, want := range roots {
		var tree merkle.Tree
		for _, l := range leaves[:n] {
			data, err := hex.DecodeString(l)
			if err != nil {
				t.Fatal(err)
			}
			tree.Add(merkle.Leaf(data))
		}
		if got := fmt.Sprintf("%x", tree.Root()); got != want {
			t.Errorf("root of %d leaves %s, want %s", n, got, want)
		}
	}
}

func TestEveryPathLeadsToTheRoot(t *testing.T) {
	for n := 1; n < 70; n++ {
		for i := range n {
			var tree merkle.Tree
			for k := range n {
				if k == i {
					tree.Mark()
				}
				tree.Add(merkle.Leaf([]byte{byte(k)}))
			}
			root := tree.Root()
			if merkle.Climb(merkle.Leaf([]byte{byte(i)}), tree.Path()) != root {
				t.Fatalf("leaf %d of %d does not lead to the root", i, n)
			}
			if merkle.Climb(merkle.Leaf([]byte{byte(i + 1)}), tree.Path()) == root {
				t.Fatalf("another leaf leads to the root in place of %d of %d", i, n)
			}
		}
	}
}
