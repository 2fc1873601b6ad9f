// net/http with its default client. ADDRESS golden FILE | ADDRESS large TIMES
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"strconv"
)

func post(url string, body []byte) (int, []byte) {
	response, err := http.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		panic(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		panic(err)
	}
	return response.StatusCode, content
}

func main() {
	url := "http://" + os.Args[1]
	if os.Args[2] == "large" {
		times, _ := strconv.Atoi(os.Args[3])
		for i := 0; i < times; i++ {
			row, _ := post(url+"/predict", make([]byte, 20_000_000))
			batch, _ := post(url+"/predict/batch", make([]byte, 40_000_000))
			fmt.Println(row)
			fmt.Println(batch)
		}
		return
	}
	file, err := os.Open(os.Args[3])
	if err != nil {
		panic(err)
	}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var answer struct{ Probability float64 }
		_, content := post(url+"/predict", lines.Bytes())
		if err := json.Unmarshal(content, &answer); err != nil {
			panic(err)
		}
		fmt.Printf("%016x\n", math.Float64bits(answer.Probability))
	}
}
