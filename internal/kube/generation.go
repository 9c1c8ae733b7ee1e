package kube

import "strconv"

// generationFile is among those that programs are started anew for when they change.
const generationFile = "generation"

func writeGeneration(path string, n int) error {
	return writeFile(path, []byte(strconv.Itoa(n)+"\n"))
}
